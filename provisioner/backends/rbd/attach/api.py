"""The seam between the node's half and the programs and kernel modules that make a device of an image."""

import dataclasses
from pathlib import Path
from typing import Protocol

from provisioner import model
from provisioner.backends.rbd.client import api


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a node keeps of a volume that it attaches, from just before that until it is detached.

    Attributes:
        folder: what belongs to the attachment lies here: configuration, sockets, the record itself.
        volume: the volume's id.
        mounter: the name of the attacher.
        cluster: the operator's name for the cluster.
        fsid: the cluster's own name for itself.
        shared: other nodes may write, too.
        addresses: of our own client that has the image open, as the cluster sees it; only known of one that is alone.
    """

    folder: Path
    volume: str
    mounter: str
    cluster: str
    fsid: str
    place: api.Place
    image: str
    read_only: bool = False
    shared: bool = False
    addresses: tuple[str, ...] = ()

    @property
    def is_alone(self) -> bool:
        """Whether no other client may have the image open for writing: QEMU, where it only reads, looks like one."""
        return not (self.read_only or self.shared)

    @property
    def spec(self) -> str:
        """The image as the command line of `rbd` names it."""
        return f"{self.place}/{self.image}"


class Attacher(Protocol):
    """One way to make a device of an image. Every method is idempotent."""

    @property
    def name(self) -> str:
        """As a class writes it (`mounter`)."""

    def unavailable(self) -> str:
        """Why this node cannot do it; empty where it can. Looks once at what the node has."""

    def attach(self, record: Record, credentials: api.Credentials, options: str) -> Path:
        """The device of the image, attached where it was not.

        Args:
            options: of the class (`mapOptions`), separated by commas.

        Raises:
            errors.InvalidRequestError: an option that this attacher has not.
            errors.BackendUnavailableError: it cannot be attached now, and why.
        """

    def device(self, record: Record) -> Path | None:
        """The device, working or not; None where there is none."""

    def detach(self, record: Record) -> None:
        """Take the device away, what it holds written out; also one that does not work any more.

        Raises:
            errors.VolumeInUseError: something on this node still uses it.
        """

    def refresh(self, record: Record, size: int) -> None:
        """Let the device have the image's present size, in bytes.

        Raises:
            errors.BackendUnavailableError: it has not got it in time.
        """

    def condition(self, record: Record) -> model.Condition:
        """What is wrong with the device, as far as this node can tell."""
