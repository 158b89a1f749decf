"""The process that is killed: works on a pool, and dies by SIGKILL as soon as it has reached its n-th step.

Run as `python directory_worker.py POOL STEPS WORK...`; STEPS is 0 for one that lives. The works:
`create NAME`, `delete ID`, `purge`, `publish ID TARGET`, `unpublish ID TARGET`, and `fill PREFIX COUNT`, which says
that it is ready, waits for a line, creates so many volumes or until the pool is full, and prints what was promised.
"""

import datetime
import os
import signal
import sys
from pathlib import Path

from provisioner import errors, metrics, model
from provisioner.backends.directory import backend, config
from provisioner.node import publisher, requests

RWO = model.Capability(access_mode=model.AccessMode.SINGLE_NODE_WRITER)


class Killer:
    """Counts the steps and ends the process at one."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, step: str) -> None:
        print(step, flush=True)
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _request(name: str) -> model.VolumeRequest:
    return model.VolumeRequest(name=name, size=model.SizeRange(required=model.MIB), capabilities=(RWO,))


def _fill(made: backend.DirectoryBackend, prefix: str, count: int) -> None:
    promised = 0
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        for number in range(count):
            promised += made.create(_request(f"{prefix}-{number}")).size
    except errors.InsufficientCapacityError:
        print("full", flush=True)
    print(f"promised {promised}", flush=True)


def main(pool: str, steps: str, work: str, *words: str) -> None:
    killer = Killer(int(steps))
    made = backend.DirectoryBackend(
        config.DirectoryConfig(
            pools={"fast": Path(pool)}, topology_key="t/node", node_name="n", trash_retention=datetime.timedelta()
        ),
        metrics.Metrics(),
        steps=killer,
    )
    node = publisher.Publisher(made, steps=killer)
    if work == "create":
        made.create(_request(words[0]))
    elif work == "delete":
        made.delete(model.VolumeId(words[0]))
    elif work == "purge":
        made.purge_expired()
    elif work == "publish":
        node.publish(
            requests.PublishRequest(
                volume_id=model.VolumeId(words[0]), target=Path(words[1]), capability=RWO, read_only=True
            )
        )
    elif work == "unpublish":
        node.unpublish(model.VolumeId(words[0]), Path(words[1]))
    elif work == "fill":
        _fill(made, words[0], int(words[1]))
    else:
        raise ValueError(work)


if __name__ == "__main__":
    main(*sys.argv[1:])
