"""How a watcher works; made by `bootstrap` from the settings."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The choices an operator has. Times are in seconds.

    Attributes:
        node_name: the node whose claims this process provisions (per-node mode); empty for those of the cluster.
        binding: `eager` binds claims as fast as is safe; `controller` leaves it to the kube-controller-manager.
            A per-node process leaves it to the controller whatever is chosen here: one process in a cluster binds.
        volume_name_prefix: volumes and PersistentVolumes are named `<prefix>-<uid of the claim>`.
        extra_create_metadata: the driver is told the names of claim and PersistentVolume.
        strict_topology: a volume is made where its node was selected, or nowhere.
        csi_timeout: of one CSI call.
        workers: claims worked on at a time, and as many deletions.
        retry_min: the wait before a first retry, which doubles with each.
        retry_max: the longest wait; also the pace of retries of what cannot succeed until somebody changes it.
        head_start: what the binder gets to bind a claim by itself before we help.
        pulse_timeout: after which a batch is left to a binder that has not answered its pulse.
        assign_step: how much longer each next node waits before it takes an Immediate claim (per-node mode).
        drain_timeout: of the work in flight when the process is told to stop.
    """

    node_name: str = ""
    binding: Literal["eager", "controller"] = "eager"
    volume_name_prefix: str = "pvc"
    extra_create_metadata: bool = True
    strict_topology: bool = True
    csi_timeout: float = 10.0
    workers: int = 100
    retry_min: float = 1.0
    retry_max: float = 300.0
    head_start: float = 0.05
    pulse_timeout: float = 30.0
    assign_step: float = 5.0
    drain_timeout: float = 8.0

    @property
    def per_node(self) -> bool:
        """Whether this process provisions the claims of one node only."""
        return bool(self.node_name)

    @property
    def eager(self) -> bool:
        """Whether this process binds claims."""
        return self.binding == "eager" and not self.per_node
