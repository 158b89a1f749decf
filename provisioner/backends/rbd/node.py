"""The node's half of the RBD backend: images as devices, each with one writer at a time.

Who has an image open for writing, its watchers say. They are asked before an image is attached, and again after: a
client that came in between is seen by both, and both let go. A writer's lock is its attacher's affair (`attach.api`).
"""

import dataclasses
import json
import threading
from collections.abc import Collection, Mapping
from pathlib import Path

import structlog

from provisioner import errors, model
from provisioner.backends import base
from provisioner.backends.rbd import clusters, context, names, places
from provisioner.backends.rbd.attach import api as attach_api
from provisioner.backends.rbd.attach import choice, records
from provisioner.backends.rbd.client import api
from provisioner.node import filesystems

_USER, _KEY = "userID", "userKey"
_FENCED_SECONDS = 300
"""Longer than a cluster takes a client for alive that it does not hear of."""

_log = structlog.get_logger(__name__)


class RbdNode:
    """A `base.DeviceBackend` of images. Calls for one volume must not overlap.

    Args:
        known: the operator's clusters.
        connect: gives the connection for these credentials, the same one each time.
        attachers: what this node can attach with.
        kept: the node's records.
    """

    def __init__(
        self, known: clusters.Clusters, connect: places.Connect, attachers: choice.Choice, kept: records.Records
    ) -> None:
        self._clusters = known
        self._connect = connect
        self._attachers = attachers
        self._records = kept
        self._lock = threading.Lock()
        # Of classes that name secrets; these come with the calls that attach, and are written down nowhere.
        self._given: dict[model.VolumeId, api.Credentials] = {}

    def topology(self) -> model.Topology | None:
        """Every node reaches every cluster."""
        return None

    def attach(self, attachment: base.Attachment) -> Path:
        """The device that is the image; see `base.DeviceBackend.attach`."""
        wanted = context.Context.decode(attachment.context)
        credentials = self._credentials(attachment, wanted.cluster)
        cluster = self._connect(credentials)
        images = cluster.images(api.Place(wanted.pool, wanted.namespace))
        metadata = images.find(wanted.image).metadata
        record = self._records.load(attachment.volume_id) or attach_api.Record(
            folder=self._records.folder(attachment.volume_id),
            volume=attachment.volume_id.value,
            mounter=self._attachers.pick(wanted.mounter).name,
            cluster=wanted.cluster,
            fsid=cluster.fsid(),
            place=images.place,
            image=wanted.image,
            read_only=attachment.read_only,
            shared=attachment.shared,
        )
        attacher = self._attachers.named(record.mounter)
        if not attacher.condition(record).abnormal:
            _check_same(record, attachment)
            if not (_is_unfinished(record) and _let_go(attacher, record)):
                return attacher.attach(record, credentials, wanted.map_options)
        else:
            attacher.detach(record)
        record = dataclasses.replace(record, read_only=attachment.read_only, shared=attachment.shared)
        return self._attach(record, images, metadata, credentials, wanted.map_options)

    def _attach(
        self,
        record: attach_api.Record,
        images: api.Images,
        metadata: Mapping[str, str],
        credentials: api.Credentials,
        options: str,
    ) -> Path:
        attacher = self._attachers.named(record.mounter)
        before = _addresses(images, record)
        _refuse_others(record, before - set(record.addresses), metadata)
        self._records.save(record)
        device = attacher.attach(record, credentials, options)
        if record.is_alone:
            came = _addresses(images, record) - before
            if len(came) > 1:
                # Another client was as fast as ours; which address is whose cannot be told. It sees two as well.
                attacher.detach(record)
                self._records.forget(record)
                _refuse_others(record, came, metadata)
            if not attacher.condition(record).abnormal:  # Else the one that came may be another's.
                self._records.save(dataclasses.replace(record, addresses=tuple(came)))
        return device

    def device(self, volume_id: model.VolumeId) -> Path | None:
        """The device that is the volume on this node; None where it is not attached."""
        record = self._records.load(volume_id)
        return None if record is None else self._attachers.named(record.mounter).device(record)

    def detach(self, volume_id: model.VolumeId) -> None:
        """Take the device away; see `base.DeviceBackend.detach`."""
        record = self._records.load(volume_id)
        if record is not None:
            attacher = self._attachers.named(record.mounter)
            died = attacher.condition(record).abnormal
            attacher.detach(record)
            if died:
                self._fence(record, volume_id)
            self._records.forget(record)
        with self._lock:
            self._given.pop(volume_id, None)

    def refresh(self, volume_id: model.VolumeId) -> int:
        """Let the device show the image's present size; returns it in bytes."""
        record = self._record(volume_id)
        found = self._images(record, volume_id).find(record.image)
        # Telling an attacher a size is asking for it. Where the controller is growing the image right now, that must
        # not be undone: what it has written down as its aim counts.
        size = max(found.size, int(found.metadata.get(names.SIZE) or 0))
        attacher = self._attachers.named(record.mounter)
        attacher.refresh(record, size)
        device = attacher.device(record)
        if device is None:
            raise errors.VolumeNotFoundError(f"volume {volume_id} was detached meanwhile")
        return filesystems.size(device)

    def formatted(self, volume_id: model.VolumeId) -> base.Formatted:
        """What the image's metadata say of its filesystem."""
        record = self._record(volume_id)
        text = self._images(record, volume_id).find(record.image).metadata.get(names.FORMATTED)
        return base.Formatted(text) if text in {state.value for state in base.Formatted} else base.Formatted.NEVER

    def record_format(self, volume_id: model.VolumeId, state: base.Formatted) -> None:
        """Write into the image's metadata what is being done to its filesystem."""
        record = self._record(volume_id)
        images = self._images(record, volume_id)
        images.set_metadata(images.find(record.image).id, {names.FORMATTED: state.value})

    def condition(self, volume_id: model.VolumeId) -> model.Condition:
        """What is wrong with the device: here, or as the cluster sees its client."""
        record = self._records.load(volume_id)
        if record is None:
            return model.Condition(abnormal=True, message="the volume is not attached to this node")
        condition = self._attachers.named(record.mounter).condition(record)
        if condition.abnormal or not record.addresses:
            return condition
        try:
            seen = _addresses(self._images(record, volume_id), record)
        except errors.BackendUnavailableError as error:
            # That the cluster cannot be asked does not mean that the device is cut off for good.
            _log.warning("the cluster cannot be asked for a volume's client", volume=record.volume, error=str(error))
            return condition
        if seen.isdisjoint(record.addresses):
            return model.Condition(
                abnormal=True,
                message=f"the cluster does not see this node's client {', '.join(record.addresses)} any more: "
                "it was fenced off, or has been out of reach for long",
            )
        return condition

    def _fence(self, record: attach_api.Record, volume_id: model.VolumeId) -> None:
        """Have the cluster forget a client of ours that died: it would be taken for alive for half a minute."""
        try:
            cluster = self._connect(self._credentials_of(record, volume_id))
            for address in record.addresses:
                cluster.fence(address, seconds=_FENCED_SECONDS)
        except errors.BackendUnavailableError as error:
            _log.warning("a client that died cannot be fenced off", volume=record.volume, error=str(error))

    def _record(self, volume_id: model.VolumeId) -> attach_api.Record:
        record = self._records.load(volume_id)
        if record is None:
            raise errors.VolumeNotFoundError(f"volume {volume_id} is not attached to this node")
        return record

    def _images(self, record: attach_api.Record, volume_id: model.VolumeId) -> api.Images:
        return self._connect(self._credentials_of(record, volume_id)).images(record.place)

    def _credentials_of(self, record: attach_api.Record, volume_id: model.VolumeId) -> api.Credentials:
        with self._lock:
            given = self._given.get(volume_id)
        return given or self._cluster(record.cluster)

    def _credentials(self, attachment: base.Attachment, cluster_id: str) -> api.Credentials:
        """The cluster's own, or those of the class's secret; the latter are remembered for the calls that follow."""
        credentials = self._cluster(cluster_id)
        if attachment.secrets.get(_KEY):
            user = attachment.secrets.get(_USER, credentials.user).removeprefix("client.")
            credentials = dataclasses.replace(credentials, user=user, key=attachment.secrets[_KEY].strip())
            with self._lock:
                self._given[attachment.volume_id] = credentials
        return credentials

    def _cluster(self, cluster_id: str) -> api.Credentials:
        found = self._clusters.get(cluster_id)
        if found is None:
            raise errors.BackendUnavailableError(
                f"the Ceph cluster {cluster_id[:64]!a} is not known on this node",
                remedy="add it to the clusters file of the node's Pods",
            )
        return found


def _addresses(images: api.Images, record: attach_api.Record) -> frozenset[str]:
    return frozenset(watcher.address for watcher in images.watchers(record.image))


def _is_unfinished(record: attach_api.Record) -> bool:
    """Whether the process was ended that attached it, before it knew the address of its client.

    Which of the watchers it is cannot be found out later: it may have lost its watch, and another node come.
    """
    return record.is_alone and not record.addresses


def _let_go(attacher: attach_api.Attacher, record: attach_api.Record) -> bool:
    """Detach what was attached, where nobody uses it yet."""
    try:
        attacher.detach(record)
    except errors.VolumeInUseError:
        return False
    return True


def _check_same(record: attach_api.Record, attachment: base.Attachment) -> None:
    if (record.read_only, record.shared) != (attachment.read_only, attachment.shared):
        raise errors.VolumeExistsError(
            f"volume {record.volume} is attached already, {'for reading only' if record.read_only else 'for writing'}",
            remedy="unstage it first",
        )


def _refuse_others(record: attach_api.Record, others: Collection[str], metadata: Mapping[str, str]) -> None:
    if others and record.is_alone:
        nodes = ", ".join(sorted(_published(metadata))) or "no node that is known"
        raise errors.VolumeInUseError(
            f"volume {record.volume} is open at {', '.join(sorted(others))}; it is published to {nodes}",
            remedy="end the Pod that uses it there; if that node is dead, its client must be fenced off first",
        )


def _published(metadata: Mapping[str, str]) -> Mapping[str, str]:
    try:
        found = json.loads(metadata.get(names.NODE) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
