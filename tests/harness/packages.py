"""The Debian packages that the tests and the demo need: installs what is missing, and says so.

A need counts as met when its program or file is there, whoever brought it; nothing that is installed is ever removed
for it. Services that the packages bring (etcd, containerd) are neither started nor enabled.

Runs by itself, with any Python 3.11 and the standard library alone: `packages.py python|components|missing`.
"""

import contextlib
import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_OLDEST_PYTHON = (3, 11)
_POLICY = Path("/usr/sbin/policy-rc.d")
_MINUTES = 60


@dataclasses.dataclass(frozen=True)
class Need:
    """One Debian package, and how to tell that what it brings is there.

    `file` may be a pattern, for names that carry an architecture or a version.
    """

    package: str
    program: str = ""
    file: str = ""
    module: str = ""
    services: tuple[str, ...] = ()

    def is_met(self) -> bool:
        """Whether the machine has what the package brings."""
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
        return (
            (not self.program or shutil.which(self.program, path=path) is not None)
            and (not self.file or any(Path("/").glob(self.file.lstrip("/"))))
            and (not self.module or importlib.util.find_spec(self.module) is not None)
        )


GROUPS = {
    "python": (Need("python3-venv", module="ensurepip"),),
    "components": (
        Need("ca-certificates", file="/etc/ssl/certs/ca-certificates.crt"),
        Need("iproute2", program="ip"),
        Need("openssl", program="openssl"),
        Need("etcd-server", program="etcd", services=("etcd",)),
        Need("containerd", program="containerd", services=("containerd",)),
        Need("runc", program="runc"),
        Need("containernetworking-plugins", file="/usr/lib/cni/ptp"),
        Need("busybox-static", file="/usr/share/doc/busybox-static"),
        Need("mmdebstrap", program="mmdebstrap"),
        Need("buildah", program="buildah"),
        Need("ceph-mon", program="ceph-mon", services=("ceph-crash",)),
        Need("ceph-mgr", program="ceph-mgr"),
        Need("ceph-osd", program="ceph-osd"),
        Need("ceph-common", program="rbd"),
        Need("python3-rados", file="/usr/lib/python3/dist-packages/rados.cpython-*.so"),
        Need("python3-rbd", file="/usr/lib/python3/dist-packages/rbd.cpython-*.so"),
        Need("qemu-block-extra", file="/usr/lib/*/qemu/block-rbd.so"),
        Need("qemu-system-common", program="qemu-storage-daemon"),
        Need("xfsprogs", program="mkfs.xfs"),
        Need("e2fsprogs", program="resize2fs"),
    ),
}


def main(group: str) -> None:
    """Install what is missing of a group; with `missing`, only say what is missing of all."""
    if sys.version_info < _OLDEST_PYTHON:
        sys.exit(f"error: Python 3.11 or newer is needed; {sys.executable} is {sys.version.split()[0]}")
    if group == "missing":
        print(" ".join(need.package for needs in GROUPS.values() for need in needs if not need.is_met()))
        return
    missing = [need for need in GROUPS[group] if not need.is_met()]
    if not missing:
        return
    names = [need.package for need in missing]
    if shutil.which("apt-get") is None:
        sys.exit(f"error: this is no Debian; install what these packages bring there: {' '.join(names)}")
    if os.geteuid() != 0:
        sys.exit(f"error: these packages are missing; as root: apt-get install {' '.join(names)}")
    print(f"installing Debian packages: {' '.join(names)}", flush=True)
    _apt("update", "--quiet=2")
    with _services_stay_off(missing):
        # --no-remove: rather fail than take something away from this machine.
        _apt("install", "--quiet=2", "--yes", "--no-install-recommends", "--no-remove", *names)


def _apt(*arguments: str) -> None:
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=300", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30 * _MINUTES,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-20:])
        sys.exit(f"error: {' '.join(command)} failed:\n{tail}")


@contextlib.contextmanager
def _services_stay_off(needs: list[Need]) -> Iterator[None]:
    """Have no service started by an installation (Debian's policy-rc.d), nor at the next boot."""
    ours = not _POLICY.exists()
    if ours:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            _POLICY.unlink(missing_ok=True)
        services = [service for need in needs for service in need.services]
        if services and shutil.which("systemctl"):
            subprocess.run(["systemctl", "disable", "--quiet", *services], check=False, timeout=_MINUTES)


if __name__ == "__main__":
    main(sys.argv[1])
