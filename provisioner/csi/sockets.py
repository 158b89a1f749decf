"""Unix sockets to listen on: private, and never taken from a process that still serves.

gRPC itself replaces whatever socket lies at its path, also one in use; the check has to come before. It removes the
socket when the server stops, while it still owns it, so nobody else has to.
"""

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from grpc import aio

from provisioner import errors

# sockaddr_un on Linux has 108 bytes, the last of them a NUL.
_MAX_PATH = 107
# Only root may speak CSI: who can publish a volume can read it.
_UMASK = 0o177


def bind(server: aio.Server, path: Path) -> None:
    """Let `server` listen at `path` when it is started; what a dead process left there is replaced.

    Two processes that start at once are kept apart by a lock on the directory, so exactly one gets the socket.

    Raises:
        errors.SocketUnavailableError: another process serves there, or the path cannot be a socket.
    """
    if len(os.fsencode(path)) > _MAX_PATH:
        raise errors.SocketUnavailableError(
            f"the socket path {path} is longer than the {_MAX_PATH} bytes that Linux allows",
            remedy="choose a shorter path",
        )
    with _locked(path.parent):
        _clear(path)
        with _umask(_UMASK):
            try:
                server.add_insecure_port(f"unix:{path}")
            except RuntimeError as error:
                raise errors.SocketUnavailableError(
                    f"cannot listen on {path}: {error}", remedy="look at the directory's permissions"
                ) from error


def _clear(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise errors.SocketUnavailableError(
            f"{path} exists and is no socket", remedy="move it away, or choose another path"
        )
    if _is_served(path):
        raise errors.SocketUnavailableError(
            f"another process serves {path} already", remedy="stop it first, or choose another path"
        )
    path.unlink()


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as client:
        # A listener whose queue is full answers EAGAIN: it lives.
        return client.connect_ex(os.fspath(path)) not in {errno.ECONNREFUSED, errno.ENOENT}


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise errors.SocketUnavailableError(
            f"the socket's directory {directory} cannot be opened: {error.strerror}",
            remedy="create it, or mount it into the container",
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    """The process's umask: files that other threads make meanwhile are more private, never less."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
