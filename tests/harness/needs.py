"""What a tier needs of the machine, and how to say that it is not there: one loud line with what to install."""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import tools


@dataclasses.dataclass(frozen=True, slots=True)
class Needs:
    """What a tier needs.

    Attributes:
        programs: on PATH, each with the Debian package that brings it.
        files: that exist, each with the Debian package that brings it.
        built: whether it needs what `tools` builds.
    """

    tier: str
    programs: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    built: bool = True

    def missing(self) -> Iterator[str]:
        """What is not there, and what to do about each."""
        if os.geteuid() != 0:
            yield "root (run it as root: it makes namespaces and mounts)"
        for program, package in self.programs:
            if shutil.which(program) is None:
                yield f"{program} (apt-get install {package})"
        for file, package in self.files:
            if not Path(file).exists():
                yield f"{file} (apt-get install {package})"
        if self.built and tools.present() is None:
            yield "the Kubernetes programs (make setup builds them once, in about 7 minutes)"


_SANDBOX = (("nsenter", "util-linux"), ("unshare", "util-linux"), ("ip", "iproute2"), ("openssl", "openssl"))

CONTROL_PLANE = Needs("the control plane", programs=(*_SANDBOX, ("etcd", "etcd-server")))

NODE = Needs(
    "the node",
    programs=(
        *CONTROL_PLANE.programs,
        ("containerd", "containerd"),
        ("runc", "runc"),
        ("buildah", "buildah"),
        ("mmdebstrap", "mmdebstrap"),
    ),
    files=(("/usr/lib/cni/ptp", "containernetworking-plugins"), ("/bin/busybox", "busybox-static")),
)


def require(needed: Needs) -> None:
    """Skip the test that asks, with one line that says what is missing."""
    missing = list(needed.missing())
    if missing:
        pytest.skip(f"SKIPPED: {needed.tier} needs {'; '.join(missing)}")
