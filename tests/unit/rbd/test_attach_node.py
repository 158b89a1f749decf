"""The rules of a node with images: one writer, records, credentials; with a cluster and an attacher in memory."""

import dataclasses
import json
from pathlib import Path

import pytest

from provisioner import errors, metrics, model
from provisioner.backends import base
from provisioner.backends.rbd import clusters, context, names
from provisioner.backends.rbd import node as rbd_node
from provisioner.backends.rbd.attach import choice, records
from provisioner.backends.rbd.client import api
from provisioner.backends.rbd.client import errors as client_errors
from tests.fakes import attachers, rbd_backend, rbd_client, rbd_state

PLACE = api.Place("kube")
VOLUME = model.VolumeId("r1.0a0a0a0a.1.k8s-pvc-1")
IMAGE = "k8s-pvc-1"


@dataclasses.dataclass
class Node:
    ceph: rbd_state.Ceph
    attacher: attachers.FakeAttacher
    folder: Path

    def __post_init__(self) -> None:
        self.images = rbd_client.connect(self.ceph).images(PLACE)
        self.images.create(IMAGE, model.GIB)

    def backend(self) -> rbd_node.RbdNode:
        """As a process that has just been started has it."""
        known = clusters.Clusters(self.folder / "clusters.yaml")
        chosen = choice.Choice([self.attacher], metrics.Metrics())
        return rbd_node.RbdNode(known, rbd_backend.connector(self.ceph), chosen, records.Records(self.folder / "node"))

    def request(self, **changes: object) -> base.Attachment:
        given = context.Context(cluster="fake", pool="kube", image=IMAGE).encode()
        plain = base.Attachment(volume_id=VOLUME, context=given, publish_context={})
        return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]

    def watchers(self) -> set[str]:
        return {watcher.address for watcher in self.images.watchers(IMAGE)}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    ceph = rbd_state.Ceph()
    rbd_backend.write_clusters(tmp_path / "clusters.yaml", rbd_client.credentials())
    return Node(ceph, attachers.FakeAttacher(ceph), tmp_path)


def test_a_device_is_found_again_by_a_process_that_has_just_been_started(node: Node) -> None:
    device = node.backend().attach(node.request())
    assert node.backend().device(VOLUME) == device
    assert node.backend().attach(node.request()) == device
    assert len(node.watchers()) == 1
    node.backend().detach(VOLUME)
    assert node.backend().device(VOLUME) is None
    assert not node.watchers()
    node.backend().detach(VOLUME)


def test_another_writer_is_named_with_address_and_node(node: Node) -> None:
    node.ceph.watch(PLACE, IMAGE, address="10.0.0.7:0/77")
    node.images.set_metadata(node.images.find(IMAGE).id, {names.NODE: json.dumps({"node-b": "rw"})})
    with pytest.raises(errors.VolumeInUseError, match=r"open at 10\.0\.0\.7:0/77; it is published to node-b"):
        node.backend().attach(node.request())
    assert node.backend().device(VOLUME) is None


def test_of_two_that_come_at_once_none_keeps_the_image(node: Node) -> None:
    node.attacher.racing.append("10.0.0.7:0/77")
    with pytest.raises(errors.VolumeInUseError, match="is open at"):
        node.backend().attach(node.request())
    assert node.watchers() == {"10.0.0.7:0/77"}
    assert node.backend().device(VOLUME) is None


@pytest.mark.parametrize("how", [{"shared": True}, {"read_only": True}])
def test_writers_that_share_and_readers_do_not_mind_others(node: Node, how: dict[str, bool]) -> None:
    node.ceph.watch(PLACE, IMAGE, address="10.0.0.7:0/77")
    assert node.backend().attach(node.request(**how)) == node.backend().device(VOLUME)
    node.ceph.leave(PLACE, IMAGE, address="10.0.0.7:0/77")
    assert not node.backend().condition(VOLUME).abnormal


def test_a_reader_is_not_made_a_writer_while_it_is_attached(node: Node) -> None:
    node.backend().attach(node.request(read_only=True))
    with pytest.raises(errors.VolumeExistsError, match="for reading only"):
        node.backend().attach(node.request())


def test_a_dead_daemon_is_noticed_and_replaced_though_the_cluster_thinks_it_alive(node: Node) -> None:
    node.backend().attach(node.request())
    ghost = node.attacher.address(VOLUME.value)
    node.attacher.die(VOLUME.value)
    assert node.backend().condition(VOLUME).abnormal
    node.backend().attach(node.request())
    assert not node.backend().condition(VOLUME).abnormal
    assert node.attacher.address(VOLUME.value) != ghost


def test_a_dead_daemons_client_is_fenced_off_when_its_volume_is_detached(node: Node) -> None:
    node.backend().attach(node.request())
    ghost = node.attacher.address(VOLUME.value)
    node.attacher.die(VOLUME.value)
    node.backend().detach(VOLUME)
    assert node.ceph.fenced == {ghost}
    assert not node.watchers()


def test_a_live_daemons_client_is_not_fenced_off(node: Node) -> None:
    node.backend().attach(node.request())
    node.backend().detach(VOLUME)
    assert not node.ceph.fenced


def test_a_client_that_was_fenced_off_is_a_broken_volume(node: Node) -> None:
    node.backend().attach(node.request())
    address = node.attacher.address(VOLUME.value)
    node.ceph.fence(address)
    condition = node.backend().condition(VOLUME)
    assert condition.abnormal
    assert address in condition.message


def test_a_cluster_that_does_not_answer_breaks_no_volume(node: Node) -> None:
    backend = node.backend()
    backend.attach(node.request())
    node.ceph.faults.fail("watchers", client_errors.TimedOutError("no answer"))
    assert not backend.condition(VOLUME).abnormal


def test_the_filesystem_is_recorded_with_the_image(node: Node) -> None:
    node.backend().attach(node.request())
    assert node.backend().formatted(VOLUME) is base.Formatted.NEVER
    node.backend().record_format(VOLUME, base.Formatted.BEGUN)
    assert node.backend().formatted(VOLUME) is base.Formatted.BEGUN
    assert node.images.find(IMAGE).metadata[names.FORMATTED] == "begun"


def test_a_class_with_a_secret_has_its_own_user_and_the_secret_is_written_nowhere(node: Node) -> None:
    node.ceph.key = "another"
    backend = node.backend()
    with pytest.raises(client_errors.AuthenticationError):
        backend.attach(node.request())
    backend.attach(node.request(secrets={"userID": "client.app", "userKey": "another"}))
    assert [(given.user, given.key) for given in node.attacher.given] == [("app", "another")]
    backend.record_format(VOLUME, base.Formatted.DONE)
    kept = "".join(file.read_text() for file in (node.folder / "node").rglob("*") if file.is_file())
    assert "another" not in kept


def test_a_volume_that_is_not_there_leaves_no_record(node: Node) -> None:
    node.images.remove(IMAGE)
    with pytest.raises(errors.VolumeNotFoundError):
        node.backend().attach(node.request())
    assert node.backend().condition(VOLUME).message == "the volume is not attached to this node"


def test_a_cluster_that_this_node_does_not_know_is_named(node: Node) -> None:
    given = context.Context(cluster="elsewhere", pool="kube", image=IMAGE).encode()
    with pytest.raises(errors.BackendUnavailableError, match="'elsewhere' is not known on this node"):
        node.backend().attach(node.request(context=given))


def forget_address(node: Node) -> None:
    """As a process leaves it that is killed between attaching and noting its client's address."""
    kept = records.Records(node.folder / "node")
    record = kept.load(VOLUME)
    assert record is not None
    kept.save(dataclasses.replace(record, addresses=()))


def test_what_a_killed_process_attached_without_knowing_its_client_is_attached_anew(node: Node) -> None:
    node.backend().attach(node.request())
    forget_address(node)
    node.backend().attach(node.request())
    record = records.Records(node.folder / "node").load(VOLUME)
    assert record is not None
    assert set(record.addresses) == node.watchers()
    assert len(record.addresses) == 1


def test_another_nodes_client_is_never_taken_for_our_own(node: Node) -> None:
    node.backend().attach(node.request())
    forget_address(node)
    node.ceph.leave(PLACE, IMAGE, address=node.attacher.address(VOLUME.value))  # Its watch ran out.
    node.ceph.watch(PLACE, IMAGE, address="10.0.0.7:0/77")
    with pytest.raises(errors.VolumeInUseError, match=r"10\.0\.0\.7:0/77"):
        node.backend().attach(node.request())
    node.backend().detach(VOLUME)
    assert node.watchers() == {"10.0.0.7:0/77"}
    assert not node.ceph.fenced
