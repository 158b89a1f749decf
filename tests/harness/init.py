"""Process 1 of a sandbox: lays out what the components see, then reaps whatever is orphaned there.

The mount namespace is the sandbox's own, so the paths that Kubernetes' manifests name, /var/lib/kubelet above all, can
be used as they are without touching the machine's: /run, /var/lib and /var/log are empty there, and
/var/lib/kubelet and /var/lib/provisioner are folders of the sandbox. Mounts are shared within it, as a
kubelet needs them to pass on what a container mounts (mount propagation), and never get out.

Runs by itself, with the standard library alone: `init.py FOLDER`.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

NODE_ADDRESS = "10.99.0.1"
"""The kubelet refuses a loopback address, so the loopback device has this one too."""

SERVICE_ADDRESS = "10.0.0.1"
"""The cluster address of the Service `kubernetes`; the API server listens on it itself, so no kube-proxy is needed."""

CEPH_ADDRESS = "10.99.0.2"
"""A Ceph cluster's daemons listen here where Pods are to reach it; nothing else does, so that it is known by it."""

_HIDDEN = ("/run", "/var/lib", "/var/log")
_OWN = ("/var/lib/kubelet", "/var/lib/provisioner")


def main(folder: Path) -> None:
    """Set up, say so by a file named `ready` (which holds nothing), and reap for ever."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _lay_out(folder)
    _run("ip", "link", "set", "lo", "up")
    for address in (NODE_ADDRESS, SERVICE_ADDRESS, CEPH_ADDRESS):
        _run("ip", "address", "add", f"{address}/32", "dev", "lo")
    (folder / "ready").touch()
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            signal.sigwait([signal.SIGCHLD])


def _lay_out(folder: Path) -> None:
    _run("mount", "--make-rshared", "/")
    own = [(folder / Path(path).name, Path(path)) for path in _OWN]
    for inside, _ in own:
        inside.mkdir()
        _run("mount", "--bind", str(inside), str(inside))
    sources = [os.open(inside, os.O_PATH) for inside, _ in own]
    for path in _HIDDEN:
        _run("mount", "-t", "tmpfs", "-o", "mode=755", "sandbox", path)
    for source, (_, outside) in zip(sources, own, strict=True):
        outside.mkdir()
        _run("mount", "--bind", f"/proc/{os.getpid()}/fd/{source}", str(outside))
        os.close(source)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=30)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
