"""How fast claims are bound and volumes deleted, and what it costs: real components, our own program as a process.

    python -m tests.bench.claims --claims 1000 --json bench.json

In turn: so many claims at once on an untouched controller manager; their deletion; two claims a second; then the same
at once with a controller manager whose client is allowed more. Prints a table, and writes the figures as JSON.
"""

import argparse
import asyncio
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich import console, table

from tests.bench import load as loads
from tests.harness import control_plane, program

_PROCESSES = ("provisioner", "kube-apiserver", "kube-controller-manager", "etcd")
_RAISED = ("--kube-api-qps=500", "--kube-api-burst=1000")
# A process that used less than this share of a second is quiet.
_QUIET_SHARE = 0.03
_QUIET_SECONDS = 60.0
_CLASS = "bench"


@dataclasses.dataclass(slots=True)
class Spread:
    """Times in seconds."""

    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, times: Sequence[float]) -> "Spread":
        ordered = sorted(times) or [float("nan")]
        return cls(statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], ordered[-1])


@dataclasses.dataclass(slots=True)
class Result:
    """One phase: what was measured, over how many claims."""

    phase: str
    claims: int
    complete: bool
    per_second: float
    latency: Spread
    lost: int = 0
    warnings: int = 0
    bound_eagerly: int = 0
    cpu_seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    our_rss_mib: float = 0.0


class Bench:
    """The phases, on one control plane."""

    def __init__(self, plane: control_plane.ControlPlane, ours: program.Program, load: loads.Load) -> None:
        self._plane = plane
        self._ours = ours
        self._load = load

    async def burst(self, phase: str, count: int) -> Result:
        """So many claims at once, until all are bound."""
        load = self._load
        load.lives.clear()
        load.warnings.clear()
        cpu, eager = self._cpu(), self._eager()
        begun = time.monotonic()
        await load.create_many(count)
        complete = await load.until(lambda life: life.bound, seconds=30 + count * 0.3)
        await self.quiet()
        return self._bound(phase, begun, cpu, eager, complete=complete)

    async def trickle(self, phase: str, count: int, per_second: float) -> Result:
        """Claims at an even pace, until all are bound."""
        load = self._load
        load.lives.clear()
        cpu, eager = self._cpu(), self._eager()
        begun = time.monotonic()
        await load.create_slowly(count, per_second)
        complete = await load.until(lambda life: life.bound, seconds=30)
        await self.quiet()
        return self._bound(phase, begun, cpu, eager, complete=complete)

    async def quiet(self) -> None:
        """Wait until our program has nothing left to do: its events are written after the burst, and count too."""
        deadline, before = time.monotonic() + _QUIET_SECONDS, -1.0
        while time.monotonic() < deadline and (now := self._plane.cpu_seconds("provisioner")) - before > _QUIET_SHARE:
            before = now
            await asyncio.sleep(1.0)

    async def delete(self, phase: str) -> Result:
        """All claims are deleted, until all volumes are gone; the latency is from the claim's end to the volume's."""
        load = self._load
        cpu, begun = self._cpu(), time.monotonic()
        await load.delete_all()
        complete = await load.until(lambda life: life.volume_gone and life.gone, seconds=60 + len(load.lives) * 0.2)
        lives = [life for life in load.lives.values() if life.volume_gone and life.gone]
        return Result(
            phase,
            claims=len(load.lives),
            complete=complete,
            per_second=len(lives) / (max((life.volume_gone for life in lives), default=begun + 1) - begun),
            latency=Spread.of([life.volume_gone - life.gone for life in lives]),
            cpu_seconds=self._spent(cpu),
            our_rss_mib=self._ours.component.rss_bytes() / 2**20,
        )

    def _bound(self, phase: str, begun: float, cpu: dict[str, float], eager: float, *, complete: bool) -> Result:
        lives = list(self._load.lives.values())
        bound = [life for life in lives if life.bound]
        return Result(
            phase,
            claims=len(lives),
            complete=complete,
            per_second=len(bound) / (max((life.bound for life in bound), default=begun + 1) - begun),
            latency=Spread.of([life.bound - life.made for life in bound]),
            lost=sum(bool(life.lost) for life in lives),
            warnings=len(self._load.warnings),
            bound_eagerly=int(self._eager() - eager),
            cpu_seconds=self._spent(cpu),
            our_rss_mib=self._ours.component.rss_bytes() / 2**20,
        )

    def _cpu(self) -> dict[str, float]:
        return {name: self._plane.cpu_seconds(name) for name in _PROCESSES}

    def _spent(self, before: dict[str, float]) -> dict[str, float]:
        return {name: round(now - before[name], 3) for name, now in self._cpu().items()}

    def _eager(self) -> float:
        return self._ours.metric('provisioner_bind_total{outcome="eager"}')


async def _measure(
    plane: control_plane.ControlPlane, given: argparse.Namespace, say: Callable[[str], None]
) -> list[Result]:
    program.register_node(plane)
    program.add_class(plane, _CLASS)
    ours = program.Program(plane)
    ours.start("--log-level=warning", *given.flag)
    count: int = given.claims
    results = []
    async with loads.open_load(
        plane.kubeconfig, namespace="default", class_name=_CLASS, creators=given.creators
    ) as load:
        bench = Bench(plane, ours, load)
        say(f"{count} claims at once")
        results.append(await bench.burst("at once", count))
        say("deleting them (the controller manager lets go of 20 claims/s)")
        results.append(await bench.delete("deletion"))
        say("2 claims/s")
        results.append(await bench.trickle("2 claims/s", min(40, count), 2.0))
        await bench.delete("deletion after 2 claims/s")
        plane.restart_controller_manager(*_RAISED)
        await bench.quiet()
        say(f"{count} claims at once, controller manager raised")
        results.append(await bench.burst("at once, raised", count))
        results.append(await bench.delete("deletion, raised"))
    return results


def show(results: Sequence[Result]) -> None:
    """Print the table."""
    shown = table.Table("phase", "claims", "per s", "p50", "p99", "lost", "eager", "warnings", *_PROCESSES, "our RSS")
    for one in results:
        shown.add_row(
            one.phase + ("" if one.complete else " (incomplete)"),
            str(one.claims),
            f"{one.per_second:.1f}",
            f"{one.latency.p50:.3f} s",
            f"{one.latency.p99:.3f} s",
            str(one.lost),
            str(one.bound_eagerly),
            str(one.warnings),
            *(f"{one.cpu_seconds[name]:.2f} s" for name in _PROCESSES),
            f"{one.our_rss_mib:.0f} MiB",
        )
    console.Console(width=170).print(shown)


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", type=int, default=1000)
    parser.add_argument("--creators", type=int, default=loads.CREATORS, help="claims being made at a time")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument(
        "--flag", action="append", default=[], help="a flag for our program, as in --binding=controller"
    )
    given = parser.parse_args()
    with control_plane.running() as plane, plane.sandbox.network():
        results = asyncio.run(_measure(plane, given, lambda text: print(f"… {text}", flush=True)))
    show(results)
    if given.json is not None:
        figures: list[dict[str, Any]] = [dataclasses.asdict(one) for one in results]
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
