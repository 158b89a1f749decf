"""System calls that the standard library lacks: safe opening, atomic renaming, mounting.

Each function does one call and raises `OSError` with the call's errno; which path or volume that concerns, the caller
knows. Numbers of calls newer than 2018 are the same on every architecture; only `renameat2` is asked of the C library.
"""

import ctypes
import errno
import functools
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)

_OPEN_TREE = 428
_MOVE_MOUNT = 429
_OPENAT2 = 437
_MOUNT_SETATTR = 442

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08

_RENAME_NOREPLACE = 1

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_DIRSYNC = 128
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_PRIVATE = 1 << 18
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 0x04
_MOVE_MOUNT_T_EMPTY_PATH = 0x40
_UMOUNT_NOFOLLOW = 8

_CAP_SYS_RESOURCE = 24

_FS_IOC_GETFSUUID = (2 << 30) | (17 << 16) | (0x15 << 8)
_UUID_BYTES = 16

BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
"""Resolve below the directory only: through no symlink, and into no other mount."""


def openat2(dir_fd: int | None, path: str, flags: int, *, resolve: int, mode: int = 0) -> int:
    """Open `path` below `dir_fd` (or anywhere, for None), refusing what `resolve` forbids; closed on exec.

    A refusal is ELOOP for a symlink and EXDEV for another mount or a way out of `dir_fd`.
    """
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    start = _AT_FDCWD if dir_fd is None else dir_fd
    for _ in range(64):
        fd = _libc.syscall(_OPENAT2, start, os.fsencode(path), how, ctypes.c_size_t(len(how)))
        if fd >= 0:
            return int(fd)
        # EAGAIN: something was renamed or mounted elsewhere meanwhile, so the kernel cannot tell; it asks to repeat.
        if ctypes.get_errno() not in {errno.EAGAIN, errno.EINTR}:
            break
    raise _error()


def rename_noreplace(source_dir: int, source: str, target_dir: int, target: str) -> None:
    """Rename atomically; EEXIST where the target exists."""
    _check(_libc.renameat2(source_dir, os.fsencode(source), target_dir, os.fsencode(target), _RENAME_NOREPLACE))


def filesystem_uuid(fd: int) -> str:
    """The UUID of the filesystem that holds the open file, in hexadecimal; empty where it tells none."""
    buffer = ctypes.create_string_buffer(1 + _UUID_BYTES)
    if _libc.ioctl(fd, ctypes.c_ulong(_FS_IOC_GETFSUUID), buffer) != 0:
        return ""
    uuid = buffer.raw[1 : 1 + buffer.raw[0]]
    return uuid.hex() if any(uuid) else ""


def filesystem_magic(fd: int) -> int:
    """The number of the filesystem's type, as in statfs(2)."""
    buffer = ctypes.create_string_buffer(256)
    _check(_libc.fstatfs(fd, buffer))
    return ctypes.c_ulong.from_buffer(buffer).value


def mount(source: str | None, target: str, flags: int, *, fs_type: str = "", data: str = "") -> None:
    """Mount a device with the filesystem's own options in `data`, bind or remount, by path (mount(2))."""
    name = None if source is None else os.fsencode(source)
    kind = fs_type.encode() or None
    _check(_libc.mount(name, os.fsencode(target), kind, ctypes.c_ulong(flags), data.encode() or None))


def unmount(target: str) -> None:
    """Unmount what lies uppermost at `target`, which must not be a symlink; EBUSY while it is used."""
    _check(_libc.umount2(os.fsencode(target), _UMOUNT_NOFOLLOW))


@functools.cache
def can_clone_mounts() -> bool:
    """Whether the kernel can prepare a mount before anybody sees it (Linux 5.12)."""
    empty = struct.pack("=QQQQ", 0, 0, 0, 0)
    _libc.syscall(_MOUNT_SETATTR, -1, b"", _AT_EMPTY_PATH, empty, ctypes.c_size_t(len(empty)))
    return ctypes.get_errno() != errno.ENOSYS


@functools.cache
def may_resize_mounted_ext4() -> bool:
    """Whether this process has CAP_SYS_RESOURCE, which ext4 wants of whoever lets it grow while it is mounted."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123 - no pathlib here
        effective = next(line.split()[1] for line in status if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> _CAP_SYS_RESOURCE & 1)


def clone_mount(fd: int) -> int:
    """A detached bind mount of the open directory, without the mounts below it; lost when the result is closed."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH
    return _check(_libc.syscall(_OPEN_TREE, fd, b"", flags))


def set_mount_attributes(mount_fd: int, *, add: int, remove: int, propagation: int) -> None:
    """Change the flags (MOUNT_ATTR_*) and the propagation of a mount, all at once."""
    attributes = struct.pack("=QQQQ", add, remove, propagation, 0)
    _check(_libc.syscall(_MOUNT_SETATTR, mount_fd, b"", _AT_EMPTY_PATH, attributes, ctypes.c_size_t(len(attributes))))


def attach_mount(mount_fd: int, target_fd: int) -> None:
    """Make a detached mount appear at the open directory."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    _check(_libc.syscall(_MOVE_MOUNT, mount_fd, b"", target_fd, b"", flags))


def _check(result: int) -> int:
    if result < 0:
        raise _error()
    return result


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
