"""The project's own image, built from the Dockerfile with no container daemon and no registry.

Debian's `buildah` follows the Dockerfile; the base image is laid out by `mmdebstrap` from Debian's packages. Layers are
kept in the user's cache, so that a change of the program rebuilds its own thin layer alone, and the finished archive is
kept under the digest of everything that goes into it.

`python -m tests.harness.image_build` prints the archive's path (`make image`).
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.harness import errors, tools

ROOT = Path(__file__).parents[2]
IMAGE = "docker.io/library/provisioner:0.1.0"
_BASE = "localhost/debian:bookworm-slim"
_SOURCES = ("Dockerfile", ".dockerignore", "requirements.lock", "requirements-dev.lock", "pyproject.toml",
            "hatch_build.py", "README.md", "LICENSE", "protos", "provisioner")  # fmt: skip
_LEFT_OUT = ("doc", "man", "info", "locale")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_KEPT_ARCHIVES = 3


def archive(*, progress: tools.Say = tools.say) -> Path:
    """The image as an archive that containerd imports; built first where the sources changed."""
    folder = tools.cache_directory() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / f"provisioner-{_digest()}.tar"
    with tools.lock(folder / "lock", progress):
        if not wanted.exists():
            _Builder(progress).build(wanted)
            _forget_old(folder)
    return wanted


def _digest() -> str:
    digest = hashlib.sha256()
    for path in _files():
        digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _files() -> Iterator[Path]:
    for name in _SOURCES:
        top = ROOT / name
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            parts = path.relative_to(ROOT).parts
            if path.is_file() and "__pycache__" not in parts and parts[:2] != ("provisioner", "generated"):
                yield path


def _forget_old(folder: Path) -> None:
    kept = sorted(folder.glob("provisioner-*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in kept[_KEPT_ARCHIVES:]:
        path.unlink()


class _Builder:
    """One build."""

    def __init__(self, progress: tools.Say) -> None:
        self._say = progress
        for program in ("buildah", "mmdebstrap"):
            if shutil.which(program) is None:
                raise errors.MissingNeedError(f"{program} is not installed (Debian: apt-get install {program})")

    def build(self, wanted: Path) -> None:
        """Build the image and write it to `wanted`, which is there complete or not at all."""
        started = time.monotonic()
        self._say("building the image from the Dockerfile (about a minute and a half the first time)")
        with tempfile.TemporaryDirectory(prefix="provisioner-image-") as name:
            folder = Path(name)
            self._base(folder)
            self._buildah(
                folder,
                *("bud", "--layers", "--isolation=chroot", f"--build-arg=BASE={_BASE}", f"--tag={IMAGE}"),
                *self._machine_configuration(folder),
                str(ROOT),
            )
            partial = wanted.with_suffix(".partial")
            partial.unlink(missing_ok=True)
            self._buildah(folder, "push", IMAGE, f"docker-archive:{partial}:{IMAGE}")
            partial.rename(wanted)
        self._say(f"built {IMAGE} in {time.monotonic() - started:.0f} s")

    def _base(self, folder: Path) -> None:
        """Debian's smallest system as an image, once."""
        if self._buildah(folder, "images", "--quiet", "--filter", f"reference={_BASE}"):
            return
        self._say(f"laying out Debian for {_BASE}")
        options = [f"--dpkgopt=path-exclude=/usr/share/{left_out}/*" for left_out in _LEFT_OUT]
        options += ["--dpkgopt=path-include=/usr/share/doc/*/copyright", f"--aptopt={_apt_configuration(folder)}"]
        _checked(["mmdebstrap", "--quiet", "--variant=minbase", *options, "bookworm", str(folder / "base.tar")])
        (folder / "Dockerfile").write_text('FROM scratch\nADD base.tar /\nCMD ["bash"]\n')
        self._buildah(folder, "bud", "--isolation=chroot", f"--tag={_BASE}", str(folder))

    def _machine_configuration(self, folder: Path) -> Iterator[str]:
        """How this machine reaches its package indexes, lent to the build and not left in the image."""
        pip = ["[global]"]
        if _CERTIFICATES.exists():
            yield f"--volume={_CERTIFICATES}:/build/certificates.crt:ro"
            pip.append("cert = /build/certificates.crt")
        passed = ("index-url", "extra-index-url", "trusted-host", "default-timeout")
        variables = {option: os.environ.get(f"PIP_{option.upper().replace('-', '_')}") for option in passed}
        pip.extend(f"{option} = {value}" for option, value in variables.items() if value)
        (folder / "pip.conf").write_text("\n".join([*pip, ""]))
        yield f"--volume={folder / 'pip.conf'}:/etc/pip.conf:ro"
        yield f"--volume={_apt_configuration(folder)}:/etc/apt/apt.conf.d/90build:ro"

    def _buildah(self, folder: Path, *arguments: str) -> str:
        """Run buildah with its layers in the cache; what it mounts is gone with it."""
        storage = tools.cache_directory() / "buildah"
        storage.mkdir(parents=True, exist_ok=True)
        places = (f"--root={storage}", f"--runroot={folder / 'run'}", "--storage-driver=overlay")
        return _checked(["unshare", "--mount", "--propagation=private", "buildah", *places, *arguments])


def _apt_configuration(folder: Path) -> Path:
    """The proxies and checks that this machine's apt is set up with."""
    dumped = _checked(["apt-config", "dump", "Acquire"])
    path = folder / "apt.conf"
    path.write_text(dumped)
    return path


def _checked(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise errors.HarnessError(f"{command[0]} failed with {done.returncode}:\n{tail}")
    return done.stdout.strip()


if __name__ == "__main__":
    try:
        print(archive())
    except errors.HarnessError as error:
        sys.exit(f"error: {error}")
