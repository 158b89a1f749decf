"""Bind mounts of open directories, with options, such that nobody ever sees one that is more permissive.

From Linux 5.12 on, the mount is cloned, given its options, and only then attached. Before, a bind mount exists for a
moment without its options; the CSI call is answered after they are set, so no container starts in between.
"""

import errno
import os
from collections.abc import Sequence

from provisioner import errors, linux
from provisioner.node import mountinfo

# Option: the flag of mount(2), the attribute of mount_setattr(2). The kinds of atime are one field in the latter.
_SETTERS = {
    "ro": (linux.MS_RDONLY, 0x01),
    "nosuid": (linux.MS_NOSUID, 0x02),
    "nodev": (linux.MS_NODEV, 0x04),
    "noexec": (linux.MS_NOEXEC, 0x08),
    "nodiratime": (linux.MS_NODIRATIME, 0x80),
    "noatime": (linux.MS_NOATIME, 0x10),
    "relatime": (linux.MS_RELATIME, 0x00),
    "strictatime": (linux.MS_STRICTATIME, 0x20),
}
_ATIME = frozenset({"noatime", "relatime", "strictatime"})
_ATIME_FIELD = 0x70
_NEUTRAL = frozenset({"defaults", "rw"})


def parse_options(flags: Sequence[str], *, read_only: bool) -> frozenset[str]:
    """The options of a bind mount, from those that a class or a volume lists.

    Raises:
        errors.InvalidRequestError: one is unknown, or cannot be had by a bind mount.
    """
    chosen = [flag for entry in flags for flag in entry.split(",") if flag]
    for flag in chosen:
        if flag not in _SETTERS and flag not in _NEUTRAL:
            # A value may be sensitive; the option's name is not.
            raise errors.InvalidRequestError(
                f"the mount option {flag.partition('=')[0]!r} cannot be set on a directory",
                remedy=f"use only {', '.join(sorted([*_SETTERS, *_NEUTRAL]))} in mountOptions",
            )
    atime = [flag for flag in chosen if flag in _ATIME][-1:]
    plain = {flag for flag in chosen if flag in _SETTERS and flag not in _ATIME}
    return frozenset({*plain, *atime, *(("ro",) if read_only else ())})


def is_general(flag: str) -> bool:
    """Whether every mount can have the option, whatever filesystem it shows."""
    return flag in _SETTERS or flag in _NEUTRAL


def effective_options(inherited: frozenset[str], chosen: frozenset[str]) -> frozenset[str]:
    """What mountinfo will show of a bind mount whose origin has the `inherited` options."""
    kept = {option for option in inherited if option in _SETTERS}
    if chosen & _ATIME:
        kept -= _ATIME
    return frozenset((kept | chosen) - {"strictatime"})


def shown_options(options: frozenset[str]) -> frozenset[str]:
    """The part of a mount's options that `effective_options` speaks of."""
    return frozenset(option for option in options if option in _SETTERS)


def bind(source_fd: int, target_fd: int, options: frozenset[str]) -> None:
    """Mount the open directory over another open directory, leaving out what is mounted below it.

    The new mount is in no peer group with its origin: what is mounted in the one never appears in the other.
    Where the target is shared with the host, the mount itself appears there. Needs Linux 5.12.
    """
    clone = linux.clone_mount(source_fd)
    try:
        add = 0
        for option in options:
            add |= _SETTERS[option][1]
        remove = _ATIME_FIELD if options & _ATIME else 0
        linux.set_mount_attributes(clone, add=add, remove=remove, propagation=linux.MS_PRIVATE)
        linux.attach_mount(clone, target_fd)
    finally:
        os.close(clone)


def bind_in_two_steps(source_fd: int, target_fd: int, options: frozenset[str]) -> None:
    """As `bind`, for kernels before 5.12. Undone where the options cannot be set."""
    place = str(mountinfo.path_of(target_fd))
    wanted = effective_options(mountinfo.mount_of(source_fd).options, options)
    linux.mount(f"/proc/self/fd/{source_fd}", f"/proc/self/fd/{target_fd}", linux.MS_BIND)
    try:
        restrict(place, source_fd, wanted)
    except BaseException:
        linux.unmount(place)
        raise


def restrict(place: str, source_fd: int, wanted: frozenset[str]) -> None:
    """Give the bind mount at `place`, which must show the open directory, exactly the options `wanted`.

    Raises:
        OSError: it shows another one (ESTALE), or the options cannot be set.
    """
    fd = linux.openat2(None, place, os.O_PATH | os.O_DIRECTORY, resolve=linux.RESOLVE_NO_SYMLINKS)
    try:
        if not os.path.samestat(os.fstat(fd), os.fstat(source_fd)):
            raise OSError(errno.ESTALE, "another directory was mounted there meanwhile", place)
        flags = linux.MS_REMOUNT | linux.MS_BIND
        for option in wanted:
            flags |= _SETTERS[option][0]
        if not wanted & _ATIME:
            flags |= linux.MS_STRICTATIME
        linux.mount(None, f"/proc/self/fd/{fd}", flags)
        linux.mount(None, f"/proc/self/fd/{fd}", linux.MS_PRIVATE)
    finally:
        os.close(fd)


def unmount_all(place: str) -> None:
    """Unmount everything that is stacked at `place`, which is not followed where it is a symlink.

    Raises:
        OSError: a process of this namespace still works in it (EBUSY).
    """
    while True:
        try:
            linux.unmount(place)
        except OSError as error:
            if error.errno == errno.EINVAL:  # Nothing is mounted there any more.
                return
            raise
