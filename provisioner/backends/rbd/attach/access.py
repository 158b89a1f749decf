"""How a program gets at a cluster: a configuration file with the monitors, and for a moment a file with the key.

The key is in no argument and no environment. Its file can be read by root alone, lies on a tmpfs, and is removed as
soon as the program has started; where a process was killed in between, the next attempt removes it.
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path

from provisioner import errors
from provisioner.backends.rbd.client import api

_KEY = "key"
_OPTION = re.compile(r"[a-z][a-z0-9_-]*(=[A-Za-z0-9_.:-]+)?", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """Attributes: key: a file that holds the key as text."""

    conf: Path
    key: Path


@contextlib.contextmanager
def granted(folder: Path, credentials: api.Credentials) -> Iterator[Access]:
    """Have the two files; the configuration stays, for programs that read it again.

    Raises:
        errors.BackendUnavailableError: they cannot be written.
    """
    access = Access(folder / "ceph.conf", folder / _KEY)
    try:
        access.conf.write_text(_configuration(credentials), encoding="utf-8")
        _write_key(access.key, credentials.key)
        yield access
    except OSError as error:
        raise errors.BackendUnavailableError(f"{folder} cannot be used: {error.strerror}") from error
    finally:
        access.key.unlink(missing_ok=True)


def options(text: str) -> list[str]:
    """The options of a class, each `name` or `name=value`.

    Raises:
        errors.InvalidRequestError: one is not of that form.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if _OPTION.fullmatch(word) is None:
            raise errors.InvalidRequestError(
                f"mapOptions: {word[:40]!a} is not of the form of an option", remedy="write name or name=value"
            )
    return words


def _configuration(credentials: api.Credentials) -> str:
    lines = {
        "mon_host": ",".join(credentials.monitors),
        "keyring": "/dev/null",
        "log_file": "/dev/null",
        "log_to_stderr": "false",
        "admin_socket": "",
    }
    return "\n".join(["[global]", *(f"{name} = {value}" for name, value in lines.items()), ""])


def _write_key(path: Path, key: str) -> None:
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, key.encode("ascii"))
    finally:
        os.close(fd)
