"""Nodes of one cluster as a DaemonSet serves them: each a `provisioner node` process with a pool of its own.

There is no kubelet. A node is an object that says it is ready, so the scheduler chooses it; its Pods never run. A pool
is a small filesystem of its own in memory, so that it can be full.
"""

import collections
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from provisioner import model
from tests.harness import control_plane as harness
from tests.harness import process, program

Json = dict[str, Any]

POOLS = {"large-1": 1024 * model.MIB, "large-2": 1024 * model.MIB, "small": 64 * model.MIB}
"""The nodes, and the bytes of the filesystem of each one's pool."""

SECONDS = 60

_ROOM = {"cpu": "4", "memory": "8Gi", "pods": "100"}


class Fleet:
    """The nodes; nothing runs before `start`."""

    def __init__(self, plane: harness.ControlPlane) -> None:
        self.plane = plane
        self._rights = program.rights(plane, "node")
        self.programs: dict[str, program.Program] = {}
        for name, size in POOLS.items():
            pool = Path("/var/lib/provisioner") / name
            plane.sandbox.run(["/usr/bin/mkdir", pool])
            plane.sandbox.run(["/usr/bin/mount", "-t", "tmpfs", "-o", f"size={size}", name, pool])

    def start(self, names: Collection[str] = tuple(POOLS)) -> None:
        """Have the processes of these nodes run that do not, and wait until they are ready."""
        stopped = [name for name in names if name not in self.programs or not self.programs[name].component.alive]
        for name in stopped:
            self._program(name).start(node=name, ready=False)
        for name in stopped:
            self.programs[name].wait_until_ready()

    def _program(self, name: str) -> program.Program:
        if name not in self.programs:
            pool = Path("/var/lib/provisioner") / name
            self.programs[name] = program.Program(
                self.plane, name=f"node-{name}", kubeconfig=self._rights, role="node", pool=pool
            )
        return self.programs[name]

    def register(self) -> None:
        """Have all nodes be there, with the driver, ready and open to Pods."""
        self.plane.kubectl("apply", "--filename=-", stdin=many([_node(name) for name in POOLS]))
        owners = {node["metadata"]["name"]: node["metadata"]["uid"] for node in self._nodes()}
        self.plane.kubectl("apply", "--filename=-", stdin=many([_csi_node(name, uid) for name, uid in owners.items()]))
        self._until_open(POOLS)

    def open_only(self, names: Collection[str]) -> None:
        """Let the scheduler choose these nodes, and no other."""
        there = {node["metadata"]["name"] for node in self._nodes()}
        if shut := there - set(names):
            self.plane.kubectl("cordon", *shut)
        if to_open := there & set(names):
            self.plane.kubectl("uncordon", *to_open)
        self._until_open(names)

    def _until_open(self, names: Collection[str]) -> None:
        process.wait_until(
            lambda: not any(node["spec"].get("taints") for node in self._nodes() if node["metadata"]["name"] in names),
            seconds=SECONDS,
            what="the nodes' taints to go",
        )

    def _nodes(self) -> Sequence[Json]:
        items: list[Json] = self.plane.get("node")["items"]
        return items

    # What there is.

    def pools(self) -> Mapping[str, str]:
        """The node of each volume that is in a pool.

        Raises:
            ValueError: a volume is in two.
        """
        found = [(volume, name) for name, one in self.programs.items() for volume in one.volumes()]
        where = dict(found)
        if len(where) < len(found):
            raise ValueError(f"a volume is in two pools: {sorted(found)}")
        return where

    def saved(self) -> Mapping[str, str]:
        """The node that the affinity of each PersistentVolume names, by the volume's handle.

        Raises:
            ValueError: two PersistentVolumes have one volume.
        """
        volumes = self.plane.get("pv")["items"]
        where = {volume["spec"]["csi"]["volumeHandle"]: _place(volume) for volume in volumes}
        if len(where) < len(volumes):
            raise ValueError(f"two PersistentVolumes have one volume: {sorted(where)}")
        return where

    def claims(self, namespace: str) -> Mapping[str, Json]:
        """The claims of a namespace, by name."""
        return {claim["metadata"]["name"]: claim for claim in self.plane.get("pvc", f"-n={namespace}")["items"]}

    def until_bound(self, namespace: str) -> Mapping[str, str]:
        """Wait until every claim of the namespace is bound; the node of each one's volume, by the claim's name."""
        process.wait_until(
            lambda: {claim["status"]["phase"] for claim in self.claims(namespace).values()} == {"Bound"},
            seconds=SECONDS,
            what="the claims to be bound",
        )
        handles = {
            volume["metadata"]["name"]: volume["spec"]["csi"]["volumeHandle"]
            for volume in self.plane.get("pv")["items"]
        }
        where = self.pools()
        return {name: where[handles[claim["spec"]["volumeName"]]] for name, claim in self.claims(namespace).items()}

    def events(self, namespace: str, reason: str) -> Sequence[Json]:
        """The events of a reason."""
        found = self.plane.get("events", f"-n={namespace}", f"--field-selector=reason={reason}")
        items: list[Json] = found["items"]
        return items

    def deletions(self) -> Mapping[str, float]:
        """How many volumes each process has deleted since it was started."""
        counts: dict[str, float] = collections.defaultdict(float)
        for name, one in self.programs.items():
            for line in one.fetch("/metrics")[1].splitlines():
                if line.startswith("controller_persistentvolume_delete_total{"):
                    counts[name] += float(line.rsplit(" ", 1)[1])
        return counts


def _node(name: str) -> Json:
    """A node that is ready, as its kubelet registers it."""
    ready = {"type": "Ready", "status": "True", "reason": "Test", "message": ""}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {program.TOPOLOGY_KEY: name}},
        "spec": {"unschedulable": False},
        "status": {"conditions": [ready], "capacity": _ROOM, "allocatable": _ROOM},
    }


def _csi_node(name: str, node_uid: str) -> Json:
    """Where the driver is registered; it belongs to the node, and goes with it."""
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node_uid}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSINode",
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": {"drivers": [{"name": program.DRIVER, "nodeID": name, "topologyKeys": [program.TOPOLOGY_KEY]}]},
    }


def _place(volume: Json) -> str:
    """The one node of a volume's affinity."""
    terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    [[expression]] = [term["matchExpressions"] for term in terms]
    [node] = expression["values"]
    return f"{node}" if expression["key"] == program.TOPOLOGY_KEY else f"{expression}"


def claim(name: str, class_name: str, size: str = "1Mi", *, node: str = "") -> Json:
    """A claim; `node`: the selected one."""
    chosen = {"volume.kubernetes.io/selected-node": node} if node else {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "annotations": chosen},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": class_name,
            "resources": {"requests": {"storage": size}},
        },
    }


def pod(name: str, claim_name: str) -> Json:
    """A Pod that uses a claim, on a node where none of the namespace's is."""
    apart = {"labelSelector": {}, "topologyKey": program.TOPOLOGY_KEY}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}},
            "containers": [{"name": "web", "image": "none", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim_name}}],
        },
    }


def many(objects: Iterator[Json] | Sequence[Json]) -> str:
    """A manifest of several objects."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
