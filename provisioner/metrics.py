"""Every metric of the program, in one place: the names that users of the stock sidecars know, and our own.

One `Metrics` belongs to one process; it is handed down by `bootstrap`, so that tests each have their own registry.
"""

import functools

import prometheus_client as prometheus

from provisioner import waiting

# The stock sidecars' buckets reach from milliseconds to the longest time-outs that a CSI call has.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 120, 300)
# The seconds after which a call to the storage is slow, very slow, or hangs.
_WAITS = (0, 1, 10, 60)


class Metrics:
    """The metrics of one process. Sizes are in bytes, times in seconds."""

    def __init__(self) -> None:
        self.registry = registry = prometheus.CollectorRegistry(auto_describe=True)
        prometheus.ProcessCollector(registry=registry)
        prometheus.PlatformCollector(registry=registry)

        # Names of the stock provisioner (controller_*) and of the sidecars' CSI client (csi_sidecar_*).
        self.provision_total = prometheus.Counter(
            "controller_persistentvolumeclaim_provision",
            "Claims for which a volume was provisioned.",
            ["class", "source"],
            registry=registry,
        )
        self.provision_failed = prometheus.Counter(
            "controller_persistentvolumeclaim_provision_failed",
            "Attempts to provision a volume that failed.",
            ["class", "source"],
            registry=registry,
        )
        self.provision_seconds = prometheus.Histogram(
            "controller_persistentvolumeclaim_provision_duration_seconds",
            "Time to provision a volume, from the first attempt to the saved PersistentVolume.",
            ["class", "source"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.delete_total = prometheus.Counter(
            "controller_persistentvolume_delete",
            "PersistentVolumes whose volume was deleted.",
            ["class"],
            registry=registry,
        )
        self.delete_failed = prometheus.Counter(
            "controller_persistentvolume_delete_failed",
            "Attempts to delete a volume that failed.",
            ["class"],
            registry=registry,
        )
        self.delete_seconds = prometheus.Histogram(
            "controller_persistentvolume_delete_duration_seconds",
            "Time to delete a volume and its PersistentVolume.",
            ["class"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.csi_client_seconds = prometheus.Histogram(
            "csi_sidecar_operations_seconds",
            "CSI calls made by the watcher.",
            ["driver_name", "method_name", "grpc_status_code"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue_depth = prometheus.Gauge(
            "workqueue_depth", "Keys that wait for a worker.", ["name"], registry=registry
        )
        self.queue_age = prometheus.Histogram(
            "workqueue_queue_duration_seconds",
            "Time a key waited for a worker.",
            ["name"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue_retries = prometheus.Counter(
            "workqueue_retries", "Keys that were put back after a failure.", ["name"], registry=registry
        )

        # Our own.
        self.csi_server_seconds = prometheus.Histogram(
            "provisioner_csi_operations_seconds",
            "CSI calls served by the driver.",
            ["method_name", "grpc_status_code"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.csi_server_in_flight = prometheus.Gauge(
            "provisioner_csi_operations_in_flight",
            "CSI calls being served.",
            ["method_name"],
            registry=registry,
        )
        waits = prometheus.Gauge(
            "provisioner_waits_in_flight",
            "Calls to the storage under way that are older than so many seconds.",
            ["older_than"],
            registry=registry,
        )
        for seconds in _WAITS:
            waits.labels(str(seconds)).set_function(functools.partial(waiting.count, older_than=seconds))
        self.pending_claims = prometheus.Gauge(
            "provisioner_pending_claims",
            "Claims of ours that are not bound, by reason.",
            ["reason"],
            registry=registry,
        )
        self.bind_total = prometheus.Counter(
            "provisioner_bind",
            "Claims bound eagerly, or left to the binder, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.watch_restarts = prometheus.Counter(
            "provisioner_watch_restarts",
            "Watches that were opened anew, by kind and reason.",
            ["kind", "reason"],
            registry=registry,
        )
        self.api_requests = prometheus.Counter(
            "provisioner_kube_requests", "Requests to the API server.", ["verb", "code"], registry=registry
        )
        self.pool_bytes = prometheus.Gauge(
            "provisioner_pool_bytes",
            "The pool's bytes by state: size, free, promised, available.",
            ["pool", "state"],
            registry=registry,
        )
        self.rbd_mounter = prometheus.Gauge(
            "provisioner_rbd_mounter",
            "Whether this node can attach images in this way.",
            ["mounter"],
            registry=registry,
        )
        self.quarantined_volumes = prometheus.Gauge(
            "provisioner_quarantined_volumes",
            "Volumes whose record is unreadable.",
            ["pool"],
            registry=registry,
        )
        self.trash_volumes = prometheus.Gauge(
            "provisioner_trash_volumes",
            "Images in the pool's trash, whoever put them there.",
            ["pool"],
            registry=registry,
        )
        self.purged = prometheus.Counter(
            "provisioner_purge",
            "Attempts to remove a deleted volume for good, by outcome: purged, waiting for clones or clients, failed.",
            ["outcome"],
            registry=registry,
        )
