"""A real control plane for the tests of this tier, started once per run of pytest.

How a test reaches the API server: while `control_plane` is in use, the main thread, the event loop in it, and every
process and thread that they start stand in the control plane's network. So an aiohttp client built from
`control_plane.kubeconfig` connects as it would anywhere, and `subprocess.Popen` starts programs that can connect too.
Loopback is that network's own; unix sockets and files are this machine's.

    async def test_something(control_plane, namespace): ...

- `control_plane`: `tests.harness.control_plane.ControlPlane`: `kubectl("get", "pvc", "-n", namespace)`,
  `get("pvc", …) -> dict`, `apply(yaml)`, `kubeconfig` (an administrator's), `kubeconfig_for("user")`,
  `kubeconfig_for_service_account(namespace, name)`, `restart_apiserver()`, `restart_controller_manager(*flags)`,
  `cpu_seconds("kube-apiserver")`, `logs("etcd")`. Who restarts something leaves it running with no flags.
- `namespace`: a namespace of this one test, deleted after it.
- A test that needs a control plane of its own (other flags, an etcd it fills) opens one:
  `with control_plane.running(controller_manager=["--kube-api-qps=500"]) as plane, plane.sandbox.network(): ...`.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import control_plane as harness
from tests.harness import needs


@pytest.fixture(scope="session")
def control_plane() -> Iterator[harness.ControlPlane]:
    """The control plane of this run; the thread stands in its network."""
    needs.require(needs.CONTROL_PLANE)
    with harness.running() as plane, plane.sandbox.network():
        yield plane


@pytest.fixture
def namespace(control_plane: harness.ControlPlane) -> Iterator[str]:
    """A namespace of this one test."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    control_plane.kubectl("create", "namespace", name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def kubeconfig(control_plane: harness.ControlPlane) -> Path:
    """The kubeconfig of an administrator."""
    return control_plane.kubeconfig
