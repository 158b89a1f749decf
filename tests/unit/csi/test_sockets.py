"""Where the driver listens: privately, and never on a socket that somebody else serves."""

import socket
import stat
from pathlib import Path

import pytest
from grpc import aio

from provisioner import errors, metrics
from provisioner.backends import base
from provisioner.csi import identity, server
from provisioner.generated import csi_pb2, csi_pb2_grpc


async def _probe() -> None:
    pass


def new_server(path: Path) -> server.Server:
    return server.Server(
        path,
        identity=identity.Identity(name="a.b", version="1", features=base.Features(), probe=_probe, controller=False),
        measured=metrics.Metrics(),
    )


async def answers(path: Path) -> bool:
    async with aio.insecure_channel(f"unix://{path}") as channel:
        reply = await csi_pb2_grpc.IdentityStub(channel).GetPluginInfo(csi_pb2.GetPluginInfoRequest(), timeout=10)
        return reply.name == "a.b"


async def test_the_socket_is_for_its_owner_alone(tmp_path: Path) -> None:
    serving = new_server(tmp_path / "csi.sock")
    await serving.start()

    mode = stat.S_IMODE((tmp_path / "csi.sock").stat().st_mode)
    await serving.stop(0)

    assert mode == 0o600


async def test_the_socket_is_gone_after_a_stop(tmp_path: Path) -> None:
    serving = new_server(tmp_path / "csi.sock")
    await serving.start()
    await serving.stop(0)

    assert not (tmp_path / "csi.sock").exists()


async def test_a_socket_that_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "csi.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))

    serving = new_server(path)
    await serving.start()
    answered = await answers(path)
    await serving.stop(0)

    assert answered


async def test_a_second_server_on_the_same_socket_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "csi.sock"
    first = new_server(path)
    await first.start()

    with pytest.raises(errors.SocketUnavailableError, match="another process serves"):
        await new_server(path).start()
    answered = await answers(path)
    await first.stop(0)

    assert answered


async def test_a_listener_that_never_accepts_is_alive_too(tmp_path: Path) -> None:
    path = tmp_path / "csi.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(0)

        with pytest.raises(errors.SocketUnavailableError, match="another process serves"):
            await new_server(path).start()


async def test_a_file_at_the_sockets_path_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "csi.sock"
    path.write_text("data")

    with pytest.raises(errors.SocketUnavailableError, match="is no socket"):
        await new_server(path).start()

    assert path.read_text() == "data"


async def test_a_missing_directory_says_what_to_mount(tmp_path: Path) -> None:
    with pytest.raises(errors.SocketUnavailableError, match="mount it into the container"):
        await new_server(tmp_path / "missing" / "csi.sock").start()


async def test_a_path_that_is_too_long_for_a_socket_says_so(tmp_path: Path) -> None:
    with pytest.raises(errors.SocketUnavailableError, match="107 bytes"):
        await new_server(tmp_path / ("x" * 100) / "csi.sock").start()


async def test_a_directory_that_takes_no_socket_says_so() -> None:
    with pytest.raises(errors.SocketUnavailableError, match=r"cannot listen on /proc/csi\.sock"):
        await new_server(Path("/proc/csi.sock")).start()
