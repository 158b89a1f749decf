"""A place on this machine for one cluster: own network, processes, mounts, folder; gone without trace when it ends.

Several sandboxes may be open at once, in one process or in many. See `keeper` for how one ends, `init` for what its
processes see.
"""

import contextlib
import ctypes
import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness import errors, keeper, process

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Sandbox:
    """One open sandbox.

    Attributes:
        folder: what its components write; removed with it.
        cgroup: name of the control group that a kubelet in it may use.
        components: all that were started in it and not forgotten, by name.
    """

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise errors.MissingNeedError("a sandbox needs root: it makes namespaces and mounts")
        with _base() as base:
            _sweep(base)
            self.folder = Path(tempfile.mkdtemp(dir=base, prefix="")).resolve()
            self.cgroup = _cgroup(self.folder)
            self._keeper = _start_keeper(self.folder, self.cgroup)
        self._kept = False
        self.components: dict[str, process.Component] = {}
        (self.folder / "logs").mkdir()
        try:
            process.wait_until(self._is_ready, seconds=20, what="the sandbox")
            self.init_pid = next(process.children(int((self.folder / "unshare.pid").read_text())))
        except BaseException:
            self.close()
            raise

    def _is_ready(self) -> bool:
        if self._keeper.poll() is not None:
            raise errors.HarnessError("the sandbox could not be set up; what unshare or mount printed says why")
        return (self.folder / "ready").exists()

    def command(self, arguments: Sequence[str | Path]) -> list[str]:
        """The command line that runs `arguments` (absolute paths) in the sandbox."""
        # --root, because this process may itself stand in a changed root.
        entered = ("--mount", "--net", "--pid", "--ipc", "--root")
        return ["nsenter", f"--target={self.init_pid}", *entered, "--", *map(str, arguments)]

    def run(
        self,
        arguments: Sequence[str | Path],
        *,
        stdin: str = "",
        seconds: float = 60,
        check: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the sandbox to its end.

        Raises:
            errors.HarnessError: it failed (with `check`) or took too long; with what it printed.
        """
        shown = " ".join([Path(arguments[0]).name, *map(str, arguments[1:])])
        try:
            done = subprocess.run(
                self.command(arguments),
                input=stdin,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
                env={**os.environ, **(environment or {})},
            )
        except subprocess.TimeoutExpired as late:
            raise errors.HarnessError(f"{shown} took more than {seconds:g} s; it printed: {late.stdout!r}") from None
        if check and done.returncode != 0:
            raise errors.HarnessError(f"{shown} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def start(
        self, name: str, arguments: Sequence[str | Path], *, environment: Mapping[str, str] | None = None
    ) -> process.Component:
        """Start a component, or one anew that has ended; its output goes to `logs/<name>.log`."""
        assigned = [f"{key}={value}" for key, value in (environment or {}).items()]
        command = self.command(["/usr/bin/env", *assigned, *arguments])
        if name in self.components:
            self.components[name].wait(1)
        self.components[name] = process.Component(name, command, self.folder / "logs" / f"{name}.log")
        return self.components[name]

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Stand in the sandbox's network: sockets that this thread opens meanwhile are opened there.

        So are those of threads and processes that it starts meanwhile. An asyncio loop works inside as it does
        outside, as long as everything runs in this thread (name lookups, for one, do not).
        """
        own, its = Path("/proc/thread-self/ns/net"), Path(f"/proc/{self.init_pid}/ns/net")
        with own.open() as outside, its.open() as inside:
            _enter(inside.fileno())
            try:
                yield
            finally:
                _enter(outside.fileno())

    def tails(self, lines: int = 40) -> str:
        """The end of every component's log."""
        return "\n".join(component.tail(lines) for component in self.components.values())

    def keep(self) -> int:
        """Let the sandbox outlive this process; the pid to send SIGTERM to when it is no longer wanted."""
        self._kept = True
        if self._keeper.stdin is not None:
            self._keeper.stdin.write(keeper.KEEP)
            self._keeper.stdin.close()
        return self._keeper.pid

    def close(self) -> None:
        """End the sandbox and everything in it, unless it is kept; once more is harmless."""
        if self._kept:
            return
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        try:
            self._keeper.wait(60)
        except subprocess.TimeoutExpired:
            raise errors.HarnessError(f"the sandbox {self.folder} does not end") from None
        for component in self.components.values():
            component.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def _base() -> Iterator[Path]:
    """The folder of all sandboxes, locked: the last keeper to end removes it, the first runner makes it anew."""
    base = Path(tempfile.gettempdir(), "provisioner-sandboxes")
    while True:
        base.mkdir(mode=0o700, exist_ok=True)
        try:
            opened = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(opened, fcntl.LOCK_EX)
            if base.exists() and base.stat().st_ino == os.fstat(opened).st_ino:
                yield base
                return
        finally:
            os.close(opened)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "setns")


def _cgroup(folder: Path) -> str:
    return f"provisioner-{folder.name}"


def _start_keeper(folder: Path, cgroup: str) -> subprocess.Popen[bytes]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return subprocess.Popen(
            [sys.executable, "-I", keeper.__file__, str(folder), cgroup],
            stdin=subprocess.PIPE,
            pass_fds=[lock.fileno()],
        )


def _sweep(base: Path) -> None:
    """Remove the folders of sandboxes whose keeper was killed."""
    for folder in base.iterdir():
        if not folder.is_dir():
            continue
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            keeper.remove(folder, _cgroup(folder))
