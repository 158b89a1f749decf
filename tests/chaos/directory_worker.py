"""The process that is killed: works on a pool, and dies by SIGKILL as soon as it has reached its n-th step.

Run as `python -m tests.chaos.directory_worker POOL STEPS WORK...`; STEPS is 0 for one that lives. The works:
`create NAME`, `delete ID`, `purge`, `publish ID TARGET`, `unpublish ID TARGET`, and `fill PREFIX COUNT`, which says
that it is ready, waits for a line, creates so many volumes or until the pool is full, and prints what was promised.
"""

import datetime
import sys
from pathlib import Path

from provisioner import errors, metrics, model
from provisioner.backends.directory import backend, config
from provisioner.node import publisher, requests
from tests.chaos import dying
from tests.fakes.directory_pools import RWO


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
    killer = dying.Killer(int(steps))
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
