"""What a node remembers of its pools, outside of them: which pool was at each place the last time.

A pool's marker tells that this directory is a pool; it cannot tell that an empty directory should have been one. With
`--init-pools`, an empty mount point of a disk that did not come up after a reboot would become a new pool, and volumes
would land on the root filesystem. The memory lies beside the CSI socket, on the node's own disk, and survives that.
"""

import os
from pathlib import Path

from provisioner import errors
from provisioner.backends.directory import files


class Memory:
    """The UUID that each pool had.

    Args:
        directory: where the memory is kept; None remembers nothing.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def place(self, name: str) -> str:
        """The file that holds the UUID of pool `name`, for a reader."""
        return f"{self._directory}/pool-{name}"

    def recall(self, name: str) -> str:
        """The pool's UUID; empty where there was none.

        Raises:
            errors.BackendUnavailableError: the memory cannot be read.
        """
        if self._directory is None:
            return ""
        try:
            return Path(self.place(name)).read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise errors.BackendUnavailableError(
                f"pool {name}: what is remembered of it in {self.place(name)} cannot be read: {error}",
                remedy="look at the file; it holds the pool's UUID, as .pool.json in the pool does",
            ) from error

    def keep(self, name: str, pool: str) -> None:
        """Remember the pool's UUID, durably.

        Raises:
            errors.BackendUnavailableError: it cannot be written.
        """
        if self._directory is None:
            return
        try:
            fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                files.replace(fd, f"pool-{name}", f"{pool}\n".encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise errors.BackendUnavailableError(
                f"pool {name}: it cannot be remembered in {self.place(name)}: {error.strerror}",
                remedy="the directory of the CSI socket must be writable and on the node's own disk",
            ) from error
