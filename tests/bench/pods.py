"""How long a Pod takes until it is Ready, with a new claim and without any volume, on the same real node.

    python -m tests.bench.pods --rounds 20 --json pods.json

The kinds take turns, so that what else the machine does falls on all. Times are from the creation of the Pod, with its
claim just before it, to the first sight of the condition Ready.

A class that waits for its first consumer has a floor of one second that is the scheduler's: having chosen a node it
looks once a second whether the claim is bound, the first time after a second (its volume binding plugin). So the goal
is held against the class that binds at once.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from rich import console, table

from tests.demo import bills, stage, teller
from tests.harness import errors, image_build

_PLAIN = "without a volume"
_AT_ONCE = "with one of standard-immediate"
_KINDS = {_PLAIN: "", _AT_ONCE: "standard-immediate", "with one of standard": "standard"}
_IMAGE = stage.WEB_IMAGE
_GOAL_SECONDS = 0.3
_LIMIT_SECONDS = 30.0


def main() -> None:
    """Measure, print a table, and write the figures where asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pods", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="Pods of each kind")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    with stage.own(teller.Teller()) as cluster:
        overlay = f"--kustomize={image_build.ROOT / bills.DIRECTORY.overlay}"
        cluster.kubectl("apply", "--server-side", "--validate=strict", overlay)
        rollout = ("rollout", "status", "daemonset/provisioner-node", "--namespace=provisioner-system")
        cluster.kubectl(*rollout, "--timeout=90s", seconds=100)
        times: dict[str, list[float]] = {kind: [] for kind in _KINDS}
        for number in range(options.rounds):
            for turn, (kind, storage_class) in enumerate(_KINDS.items()):
                times[kind].append(_measure(cluster, f"pod-{number}-{turn}", storage_class))
    figures = {kind: _figures(seconds) for kind, seconds in times.items()}
    _print(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _measure(cluster: stage.Own, name: str, storage_class: str) -> float:
    """Seconds until a new Pod is Ready, with a claim of this class or with none; both are deleted after."""
    volume = bool(storage_class)
    objects = [_claim(name, storage_class)] if volume else []
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": [*objects, _pod(name, volume=volume)]})
    started = time.monotonic()
    cluster.kubectl("create", "--filename=-", stdin=manifest)
    waiting = ("wait", f"pod/{name}", "--for=condition=Ready", f"--timeout={_LIMIT_SECONDS:.0f}s")
    cluster.kubectl(*waiting, seconds=_LIMIT_SECONDS + 5)
    took = time.monotonic() - started
    cluster.kubectl("delete", f"pod/{name}", *([f"pvc/{name}"] if volume else []))
    return took


def _claim(name: str, storage_class: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": storage_class,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }


def _pod(name: str, *, volume: bool) -> dict[str, object]:
    container = {"name": "main", "image": _IMAGE, "command": ["sleep", "3600"]}
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": name}}] if volume else []
    mounts = [{"name": "data", "mountPath": "/data"}] if volume else []
    spec = {
        "terminationGracePeriodSeconds": 0,
        "containers": [{**container, "volumeMounts": mounts}],
        "volumes": volumes,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def _figures(seconds: Sequence[float]) -> dict[str, float]:
    return {
        "p50": round(statistics.median(seconds), 3),
        "p90": round(statistics.quantiles(seconds, n=10)[-1], 3),
        "count": len(seconds),
    }


def _print(figures: dict[str, dict[str, float]]) -> None:
    shown = table.Table("Pod", "until Ready, p50", "p90", title="\nA Pod until it is Ready", title_justify="left")
    for kind, values in figures.items():
        shown.add_row(kind, f"{values['p50']:.2f} s", f"{values['p90']:.2f} s")
    console.Console().print(shown)
    cost = figures[_AT_ONCE]["p50"] - figures[_PLAIN]["p50"]
    print(f"a volume that is bound at once costs {cost:.2f} s (goal: at most {_GOAL_SECONDS} s)")


if __name__ == "__main__":
    try:
        main()
    except errors.HarnessError as error:
        raise SystemExit(f"error: {error}") from error
