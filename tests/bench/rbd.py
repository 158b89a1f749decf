"""How fast the RBD backend's CSI calls are, against bare librbd on the same Ceph cluster in the same run.

    python -m tests.bench.rbd --calls 100 --at-once 16 --json rbd.json

Both sides do the same on images of the same features: create, expand, snapshot, restore, delete the snapshot, delete.
Bare librbd is one connection with as many threads; ours is the program as a process of its own, called over its unix
socket. Each of our calls is made a second time too, as whoever retries does. Rounds take turns, bare and ours.
"""

import argparse
import asyncio
import concurrent.futures
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
from rich import console, table

from provisioner import model
from provisioner.backends.rbd.client import binding
from provisioner.generated import csi_pb2, csi_pb2_grpc
from tests.harness import ceph as ceph_harness
from tests.harness import process

_FEATURES = 61
_SIZE, _LARGER = model.GIB, 2 * model.GIB
_STEPS = ("create", "expand", "snapshot", "restore", "delete snapshot", "delete")
_GOAL_SHARE = 0.6
_WRITER = csi_pb2.VolumeCapability(
    mount=csi_pb2.VolumeCapability.MountVolume(fs_type="ext4"),
    access_mode=csi_pb2.VolumeCapability.AccessMode(mode=csi_pb2.VolumeCapability.AccessMode.SINGLE_NODE_WRITER),
)


class Bare:
    """librbd by itself."""

    def __init__(self, cluster: ceph_harness.CephCluster, at_once: int) -> None:
        bound = binding.load()
        self._rbd = bound.rbd
        self._rados = bound.rados.Rados(
            rados_id=ceph_harness.USER,
            conf={"mon_host": cluster.monitors[0], "key": cluster.key, "rbd_default_clone_format": "2"},
        )
        self._rados.connect()
        self._ioctx = self._rados.open_ioctx(ceph_harness.POOL)
        self._threads = concurrent.futures.ThreadPoolExecutor(at_once)

    def round(self, names: Sequence[str]) -> dict[str, float]:
        """Seconds that each step took over all of these names."""
        return {step: self._timed(getattr(self, "_" + step.replace(" ", "_")), names) for step in _STEPS}

    def close(self) -> None:
        """End the connection."""
        self._threads.shutdown()
        self._ioctx.close()
        self._rados.shutdown()

    def _timed(self, work: Callable[[str], object], names: Sequence[str]) -> float:
        begun = time.perf_counter()
        list(self._threads.map(work, names))
        return time.perf_counter() - begun

    def _create(self, name: str) -> None:
        self._rbd.RBD().create(self._ioctx, name, _SIZE, old_format=False, features=_FEATURES)

    def _expand(self, name: str) -> None:
        with self._rbd.Image(self._ioctx, name) as image:
            image.resize(_LARGER)

    def _snapshot(self, name: str) -> None:
        with self._rbd.Image(self._ioctx, name) as image:
            image.create_snap("snap")

    def _restore(self, name: str) -> None:
        self._rbd.RBD().clone(self._ioctx, name, "snap", self._ioctx, f"{name}-r", features=_FEATURES)

    def _delete_snapshot(self, name: str) -> None:
        with self._rbd.Image(self._ioctx, name) as image:
            image.remove_snap("snap")

    def _delete(self, name: str) -> None:
        self._rbd.RBD().trash_move(self._ioctx, f"{name}-r", 3600)


class Ours:
    """The program, over its socket."""

    def __init__(self, channel: grpc.aio.Channel, at_once: int) -> None:
        self._stub: Any = csi_pb2_grpc.ControllerStub(channel)
        self._at_once = at_once
        self._ids: dict[str, str] = {}
        self._snapshots: dict[str, str] = {}
        self._restored: dict[str, str] = {}

    async def round(self, names: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
        """Seconds that each step took over all of these names, and the same again."""
        first: dict[str, float] = {}
        again: dict[str, float] = {}
        for step in _STEPS:
            work = getattr(self, "_" + step.replace(" ", "_"))
            first[step] = await self._timed(work, names)
            again[step] = await self._timed(work, names)
        return first, again

    async def _timed(self, work: Callable[[str], Awaitable[None]], names: Sequence[str]) -> float:
        limit = asyncio.Semaphore(self._at_once)

        async def one(name: str) -> None:
            async with limit:
                await work(name)

        begun = time.perf_counter()
        await asyncio.gather(*(one(name) for name in names))
        return time.perf_counter() - begun

    async def _create(self, name: str) -> None:
        self._ids[name] = await self._make(name, None)

    async def _expand(self, name: str) -> None:
        await self._stub.ControllerExpandVolume(
            csi_pb2.ControllerExpandVolumeRequest(
                volume_id=self._ids[name],
                capacity_range=csi_pb2.CapacityRange(required_bytes=_LARGER),
                volume_capability=_WRITER,
            )
        )

    async def _snapshot(self, name: str) -> None:
        reply = await self._stub.CreateSnapshot(
            csi_pb2.CreateSnapshotRequest(source_volume_id=self._ids[name], name=f"snapshot-{name}")
        )
        self._snapshots[name] = reply.snapshot.snapshot_id

    async def _restore(self, name: str) -> None:
        source = csi_pb2.VolumeContentSource(
            snapshot=csi_pb2.VolumeContentSource.SnapshotSource(snapshot_id=self._snapshots[name])
        )
        self._restored[name] = await self._make(f"{name}-r", source)

    async def _delete_snapshot(self, name: str) -> None:
        await self._stub.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=self._snapshots[name]))

    async def _delete(self, name: str) -> None:
        await self._stub.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=self._restored[name]))

    async def _make(self, name: str, source: csi_pb2.VolumeContentSource | None) -> str:
        reply = await self._stub.CreateVolume(
            csi_pb2.CreateVolumeRequest(
                name=name,
                capacity_range=csi_pb2.CapacityRange(required_bytes=_LARGER if source else _SIZE),
                volume_capabilities=[_WRITER],
                parameters={"clusterID": "bench", "pool": ceph_harness.POOL},
                volume_content_source=source,
            )
        )
        volume_id: str = reply.volume.volume_id
        return volume_id


def main() -> None:
    """Measure, print a table, and write the figures where asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rbd", description=__doc__)
    parser.add_argument("--calls", type=int, default=100, help="calls of each kind in a round")
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--store", choices=("memstore", "bluestore"), default="memstore")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    with ceph_harness.CephCluster(store=options.store) as cluster, tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(_measure(cluster, Path(folder), options))
    _print(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


async def _measure(cluster: ceph_harness.CephCluster, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    driver = _driver(cluster, folder)
    socket = folder / "csi.sock"
    bare = Bare(cluster, options.at_once)
    rates: dict[str, dict[str, list[float]]] = {
        side: {step: [] for step in _STEPS} for side in ("bare", "ours", "again")
    }
    try:
        process.wait_until(socket.exists, seconds=30, what="the driver's socket")
        async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
            ours = Ours(channel, options.at_once)
            await ours.round(["warm-up"])
            cpu = _cpu_seconds(driver.pid)
            for number in range(options.rounds):
                names = [f"pvc-{number}-{each}" for each in range(options.calls)]
                first, again = await ours.round(names)
                bare_times = await asyncio.to_thread(bare.round, [f"bare-{name}" for name in names])
                for side, times in (("ours", first), ("again", again), ("bare", bare_times)):
                    for step in _STEPS:
                        rates[side][step].append(options.calls / times[step])
            cpu = _cpu_seconds(driver.pid) - cpu
        rss = _rss_mib(driver.pid)
    finally:
        bare.close()
        driver.terminate()
        driver.wait(timeout=20)
    medians = {side: {step: statistics.median(found) for step, found in steps.items()} for side, steps in rates.items()}
    calls = options.rounds * options.calls * len(_STEPS) * 2
    return {"store": options.store, "per_second": medians, "rss_mib": rss, "cpu_ms_per_call": 1000 * cpu / calls}


def _driver(cluster: ceph_harness.CephCluster, folder: Path) -> subprocess.Popen[bytes]:
    clusters = folder / "clusters.yaml"
    clusters.touch(mode=0o600)
    entry = {
        "clusterID": "bench",
        "monitors": list(cluster.monitors),
        "user": ceph_harness.USER,
        "key": cluster.key,
    }
    clusters.write_text(json.dumps([entry]))
    arguments = [
        *("-m", "provisioner", "controller", "--backend=rbd", "--watch=none", f"--rbd-clusters={clusters}"),
        *(f"--csi-socket={folder / 'csi.sock'}", "--metrics-address=127.0.0.1:0", "--log-level=warning"),
    ]
    return subprocess.Popen([sys.executable, *arguments])


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _rss_mib(pid: int) -> float:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024


def _print(figures: dict[str, Any]) -> None:
    shown = table.Table(title=f"Calls a second, {figures['store']}")
    for heading in ("", "bare librbd", "CSI", "share", "CSI again"):
        shown.add_column(heading, justify="left" if not heading else "right")
    rates = figures["per_second"]
    for step in _STEPS:
        bare, ours, again = (rates[side][step] for side in ("bare", "ours", "again"))
        mark = "" if ours >= _GOAL_SHARE * bare else " (goal 60%)"
        shown.add_row(step, f"{bare:.0f}", f"{ours:.0f}", f"{ours / bare:.0%}{mark}", f"{again:.0f}")
    terminal = console.Console()
    terminal.print(shown)
    terminal.print(f"RSS {figures['rss_mib']:.0f} MiB, CPU {figures['cpu_ms_per_call']:.1f} ms a call")


if __name__ == "__main__":
    main()
