"""Finds the filesystem on a device, or makes it: only where there is nothing, and nothing is known to have been there.

Before mkfs the volume's record says BEGUN, after it DONE, and only then is it mounted. So what a BEGUN volume holds is
what an interrupted mkfs left and nobody has ever used; and where DONE is recorded and nothing is found, something is
badly wrong: a wrong image, a wrong key for its encryption, or a loss of data. None of these is made worse here.
"""

import enum
from collections.abc import Callable
from pathlib import Path

import structlog

from provisioner import errors, linux, model
from provisioner.backends import base, commands
from provisioner.node import contents, filesystems, superblocks

_KNOWN = frozenset({"ext4", "xfs"})
_log = structlog.get_logger(__name__)


class Action(enum.Enum):
    """What has to be done before the device can be mounted."""

    NONE = "none"
    MAKE = "make"
    MAKE_AGAIN = "make again"


def decide(
    content: contents.Content, formatted: base.Formatted, *, wanted: str, read_only: bool, unfinished: bool
) -> Action:
    """What to do with a device that holds this.

    Args:
        wanted: the filesystem asked for; empty where any will do.
        unfinished: what is there says itself that its mkfs did not end.

    Raises:
        errors.NotReadyError: it cannot be mounted as asked, and nothing may be made on it.
    """
    begun = formatted is base.Formatted.BEGUN
    if content.kind is contents.Kind.FILESYSTEM and not (begun and unfinished):
        if content.name == wanted or (not wanted and content.name in _KNOWN):
            return Action.NONE
        raise errors.NotReadyError(
            f"the volume holds a {content.name} filesystem, and {wanted or 'ext4 or xfs'} was asked for",
            remedy="correct csi.storage.k8s.io/fstype, or use an empty volume; this one is untouched",
        )
    remains = content.kind in {contents.Kind.UNKNOWN, contents.Kind.FILESYSTEM} and begun
    if content.kind is not contents.Kind.EMPTY and not remains:
        raise errors.NotReadyError(
            f"the volume holds {content}",
            remedy="use it with volumeMode: Block, or empty it yourself; it is untouched",
        )
    if formatted is base.Formatted.DONE:
        raise errors.NotReadyError(
            "a filesystem was made on the volume, and none is found there now",
            remedy="look at the volume before anything else; it is untouched",
        )
    if read_only:
        raise errors.NotReadyError("the volume is empty and can only be read", remedy="write to it first")
    return Action.MAKE_AGAIN if begun else Action.MAKE


class Formatter:
    """Brings devices into a state that can be mounted. `steps` is told each step that was reached."""

    def __init__(self, backend: base.DeviceBackend, runner: commands.Runner, steps: Callable[[str], None]) -> None:
        self._backend = backend
        self._runner = runner
        self._steps = steps

    def prepare(self, volume_id: model.VolumeId, device: Path, *, fs_type: str, options: str, read_only: bool) -> str:
        """Find or make the filesystem; returns its type.

        Raises:
            errors.NotReadyError: as `decide`, or it is damaged beyond what can be repaired without asking.
        """
        content = contents.look(device, self._runner)
        formatted = self._backend.formatted(volume_id)
        known = content.kind is contents.Kind.FILESYSTEM and content.name in _KNOWN
        own = superblocks.read(device, content.name) if known else superblocks.Superblock(0)
        action = decide(content, formatted, wanted=fs_type, read_only=read_only, unfinished=own.unfinished)
        if action is not Action.NONE:
            chosen = filesystems.check_type(fs_type)
            self._make(volume_id, device, chosen, options, again=action is Action.MAKE_AGAIN)
            return chosen
        if not read_only:
            self._mend(device, content.name, own)
            if formatted is not base.Formatted.DONE:
                self._backend.record_format(volume_id, base.Formatted.DONE)
        return content.name

    def _mend(self, device: Path, fs_type: str, own: superblocks.Superblock) -> None:
        if own.damaged:
            filesystems.check(device, self._runner)
        # The better way is to grow it once it is mounted, which takes no check; only root without a right must not.
        if fs_type == "ext4" and not linux.may_resize_mounted_ext4() and filesystems.needs_growth(device, fs_type):
            filesystems.grow_unmounted(device, self._runner)

    def _make(self, volume_id: model.VolumeId, device: Path, fs_type: str, options: str, *, again: bool) -> None:
        _log.info("making a filesystem", volume=str(volume_id), device=str(device), type=fs_type, again=again)
        self._backend.record_format(volume_id, base.Formatted.BEGUN)
        self._steps("stage.recorded")
        filesystems.make(device, fs_type, options, again=again, runner=self._runner)
        self._steps("stage.made")
        self._backend.record_format(volume_id, base.Formatted.DONE)
        self._steps("stage.formatted")
