"""RBD backends over a Ceph cluster in memory, or a real one."""

import datetime
from collections.abc import Callable
from pathlib import Path

import yaml

from provisioner import metrics
from provisioner.backends.rbd import backend, config, places
from provisioner.backends.rbd.client import api
from tests.fakes import rbd_client, rbd_state

POOL = "kube"


CLASS = {"pool": POOL}
"""What every class has to say."""


def write_clusters(path: Path, *given: api.Credentials) -> Path:
    """The clusters file of these clusters."""
    entries = [
        {"clusterID": each.cluster, "monitors": [*each.monitors], "user": each.user, "key": each.key} for each in given
    ]
    path.write_text(yaml.safe_dump(entries))
    return path


def connector(ceph: rbd_state.Ceph) -> places.Connect:
    """One connection for each key, as one process has it."""
    known: dict[str, api.Cluster] = {}

    def connect(given: api.Credentials) -> api.Cluster:
        found = known.get(given.key)
        if found is None or not found.is_usable():
            found = known[given.key] = rbd_client.connect(ceph, given)
        return found

    return connect


def rbd_backend(
    ceph: rbd_state.Ceph,
    directory: Path,
    *,
    instance: str = "k8s",
    steps: Callable[[str], None] = lambda _step: None,
    measured: metrics.Metrics | None = None,
    is_out_of_service: Callable[[str], bool] = lambda _node: False,
    retention: datetime.timedelta = datetime.timedelta(days=1),
    depth_limit: int = 4,
    snapshot_limit: int = 450,
) -> backend.RbdBackend:
    """A backend as one process has it; call it again for another process over the same cluster."""
    return backend.RbdBackend(
        config.RbdConfig(
            clusters=write_clusters(directory / "clusters.yaml", rbd_client.credentials(ceph.key)),
            instance=instance,
            trash_retention=retention,
            depth_limit=depth_limit,
            snapshot_limit=snapshot_limit,
        ),
        connector(ceph),
        measured or metrics.Metrics(),
        is_out_of_service=is_out_of_service,
        clock=lambda: ceph.now(),  # noqa: PLW0108  (a test may replace it)
        steps=steps,
    )
