"""What differs between the performances: one bill for each backend."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bill:
    """What is played.

    Attributes:
        title: of the performance.
        driver: the CSI driver's name.
        overlay: the folder of `deploy/` that is applied.
        statefulset: the manifest of the StatefulSet `web`.
        storage_class: the class of its claims.
        retain_class: a class whose volumes outlive their claims.
        workloads: what has to be rolled out; the one whose log is shown when something goes wrong is the first.
    """

    title: str
    driver: str
    overlay: str
    statefulset: str
    storage_class: str
    retain_class: str
    workloads: tuple[str, ...]


DIRECTORY = Bill(
    title="A StatefulSet gets its data back",
    driver="directory.csi.provisioner",
    overlay="deploy/overlays/directory",
    statefulset="deploy/examples/statefulset.yaml",
    storage_class="standard",
    retain_class="standard-retain",
    workloads=("daemonset/provisioner-node",),
)
RBD = Bill(
    title="A StatefulSet gets its data back, from a Ceph cluster",
    driver="rbd.csi.provisioner",
    overlay="deploy/overlays/rbd",
    statefulset="deploy/examples/rbd/statefulset.yaml",
    storage_class="rbd",
    retain_class="rbd-retain",
    workloads=("deployment/provisioner-rbd-controller", "daemonset/provisioner-rbd-node"),
)
