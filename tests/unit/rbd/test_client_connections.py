"""One connection per cluster and user, and when there is another one."""

import dataclasses
import threading
from concurrent import futures

import pytest

from provisioner.backends.rbd.client import api, connections, errors
from tests.fakes import rbd_client, rbd_state


class Connecting:
    """Connects to the fake, and counts."""

    def __init__(self) -> None:
        self.ceph = rbd_state.Ceph()
        self.connections = connections.Connections(self.connect)
        self.times = 0

    def connect(self, credentials: api.Credentials) -> api.Cluster:
        self.times += 1
        return rbd_client.connect(self.ceph, credentials)


@pytest.fixture
def connecting() -> Connecting:
    return Connecting()


def test_the_same_credentials_get_the_same_connection(connecting: Connecting) -> None:
    first = connecting.connections.get(rbd_client.credentials())

    assert connecting.connections.get(rbd_client.credentials()) is first
    assert connecting.times == 1


def test_another_key_gets_another_connection(connecting: Connecting) -> None:
    first = connecting.connections.get(rbd_client.credentials())
    connecting.ceph.key = "rotated"

    second = connecting.connections.get(rbd_client.credentials("rotated"))

    assert second is not first
    assert connecting.connections.get(rbd_client.credentials("rotated")) is second


def test_other_monitors_get_another_connection(connecting: Connecting) -> None:
    first = connecting.connections.get(rbd_client.credentials())

    moved = dataclasses.replace(rbd_client.credentials(), monitors=("127.0.0.2:3300",))

    assert connecting.connections.get(moved) is not first


def test_another_user_has_a_connection_of_its_own(connecting: Connecting) -> None:
    first = connecting.connections.get(rbd_client.credentials())

    other = dataclasses.replace(rbd_client.credentials(), user="other")

    assert connecting.connections.get(other) is not first
    assert connecting.connections.get(rbd_client.credentials()) is first


def test_a_connection_of_no_more_use_is_replaced(connecting: Connecting) -> None:
    first = connecting.connections.get(rbd_client.credentials())
    first.fence(first.address, seconds=60)  # type: ignore[attr-defined]

    second = connecting.connections.get(rbd_client.credentials())

    assert second is not first
    assert list(second.pools()) == ["kube"]


def test_a_refused_key_is_refused_each_time_and_accepted_once_it_is_right(connecting: Connecting) -> None:
    for _ in range(2):
        with pytest.raises(errors.AuthenticationError):
            connecting.connections.get(rbd_client.credentials("wrong"))

    assert list(connecting.connections.get(rbd_client.credentials()).pools()) == ["kube"]


def test_many_threads_at_once_make_one_connection(connecting: Connecting) -> None:
    with futures.ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda _: connecting.connections.get(rbd_client.credentials()), range(64)))

    assert len(set(map(id, got))) == 1
    assert connecting.times == 1


def test_a_cluster_that_does_not_answer_keeps_nobody_from_another(connecting: Connecting) -> None:
    reached, answer = threading.Event(), threading.Event()

    def hang() -> None:
        connecting.ceph.faults.mend("connect")
        reached.set()
        assert answer.wait(30)

    connecting.ceph.faults.on("connect", hang)
    with futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(connecting.connections.get, rbd_client.credentials())
        assert reached.wait(30)

        elsewhere = dataclasses.replace(rbd_client.credentials(), cluster="another")
        assert list(connecting.connections.get(elsewhere).pools()) == ["kube"]

        answer.set()
        assert waiting.result(30) is connecting.connections.get(rbd_client.credentials())


def test_the_key_is_not_shown_with_the_credentials() -> None:
    assert "secret" not in repr(rbd_client.credentials("secret"))
