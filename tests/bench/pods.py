"""How long a Pod takes until it is Ready, with a new claim and without any volume, on the same real node.

    python -m tests.bench.pods --rounds 20 --json pods.json

The two kinds take turns, so that what else the machine does falls on both. Times are from the Pod's creation (with its
claim, created just before it) to the first sight of the condition Ready.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from rich import console, table

from tests.demo import stage, teller
from tests.harness import errors, image_build

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
        overlay = f"--kustomize={image_build.ROOT / stage.OVERLAY}"
        cluster.kubectl("apply", "--server-side", "--validate=strict", overlay)
        rollout = ("rollout", "status", "daemonset/provisioner-node", "--namespace=provisioner-system")
        cluster.kubectl(*rollout, "--timeout=90s", seconds=100)
        with_volume, without = [], []
        for number in range(options.rounds):
            without.append(_measure(cluster, f"plain-{number}", volume=False))
            with_volume.append(_measure(cluster, f"volume-{number}", volume=True))
    figures = {"without": _figures(without), "with": _figures(with_volume)}
    _print(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _measure(cluster: stage.Own, name: str, *, volume: bool) -> float:
    """Seconds until a new Pod is Ready; it is deleted after."""
    objects = [_claim(name)] if volume else []
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": [*objects, _pod(name, volume=volume)]})
    started = time.monotonic()
    cluster.kubectl("create", "--filename=-", stdin=manifest)
    waiting = ("wait", f"pod/{name}", "--for=condition=Ready", f"--timeout={_LIMIT_SECONDS:.0f}s")
    cluster.kubectl(*waiting, seconds=_LIMIT_SECONDS + 5)
    took = time.monotonic() - started
    cluster.kubectl("delete", f"pod/{name}", *([f"pvc/{name}"] if volume else []))
    return took


def _claim(name: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": "standard",
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
        shown.add_row(f"{kind} a volume", f"{values['p50']:.2f} s", f"{values['p90']:.2f} s")
    console.Console().print(shown)
    cost = figures["with"]["p50"] - figures["without"]["p50"]
    print(f"a volume costs {cost:.2f} s (goal: at most {_GOAL_SECONDS} s)")


if __name__ == "__main__":
    try:
        main()
    except errors.HarnessError as error:
        raise SystemExit(f"error: {error}") from error
