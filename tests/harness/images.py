"""Small container images made without a registry: Debian's static busybox alone, as `docker save` would write it."""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

_BUSYBOX = Path("/bin/busybox")
_FOLDERS = ("bin", "etc", "root", "var", "proc", "sys", "dev", "usr", "usr/bin", "usr/share", "lib", "run")
_PAUSE = b"#!/bin/sh\ntrap 'exit 0' TERM INT\nwhile :; do sleep 3600 & wait $!; done\n"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def busybox(archive: Path, tags: Sequence[str]) -> None:
    """Write an image of busybox under these names; its entrypoint sleeps, so it also serves as the pause image."""
    layer = _busybox_layer()
    digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Env": ["PATH=/bin:/usr/bin"], "Entrypoint": ["/bin/pause"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": list(tags), "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        for path, data in (
            (name, config),
            (f"{digest}/layer.tar", layer),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            _add(tar, path, data=data)


def _busybox_layer() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in _FOLDERS:
            _add(tar, folder, kind=tarfile.DIRTYPE)
        _add(tar, "tmp", kind=tarfile.DIRTYPE, mode=0o1777)
        _add(tar, "bin/busybox", data=_BUSYBOX.read_bytes())
        listed = subprocess.run([_BUSYBOX, "--list"], capture_output=True, text=True, timeout=30, check=True)
        for applet in listed.stdout.split():
            if applet != "busybox":
                _add(tar, f"bin/{applet}", kind=tarfile.SYMTYPE, link="busybox")
        _add(
            tar,
            "etc/passwd",
            data=b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
            mode=0o644,
        )
        _add(tar, "etc/group", data=b"root:x:0:\nnobody:x:65534:\n", mode=0o644)
        _add(tar, "bin/pause", data=_PAUSE)
    return buffer.getvalue()


def _add(
    tar: tarfile.TarFile,
    name: str,
    *,
    kind: bytes = tarfile.REGTYPE,
    data: bytes = b"",
    mode: int = 0o755,
    link: str = "",
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.linkname = kind, mode, len(data), link
    tar.addfile(info, io.BytesIO(data))
