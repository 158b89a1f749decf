"""What every backend keeps: one test for each sentence of `provisioner.backends.base` that is about all of them."""

from concurrent import futures

import pytest

from provisioner import errors, model
from tests.contract import conftest
from tests.fakes.directory_pools import RWO, RWOP, RWX, request


def test_a_volume_is_found_as_it_was_made(storage: conftest.Storage) -> None:
    made = storage.create(request(size=2 * model.MIB))
    assert made.size == 2 * model.MIB
    assert storage.backend.get(made.id) == made


def test_a_volume_is_found_by_another_process(storage: conftest.Storage) -> None:
    made = storage.create(request())
    assert storage.again.get(made.id) == made
    assert storage.again.create(storage.of_class(request())) == made


def test_a_repeated_call_finds_the_same_volume(storage: conftest.Storage) -> None:
    made = storage.create(request())
    assert storage.create(request()) == made
    assert len(storage.backend.list(after=None, limit=10)) == 1


def test_calls_at_once_for_one_name_make_one_volume(storage: conftest.Storage) -> None:
    def make(_: int) -> model.Volume:
        while True:
            try:
                return storage.create(request())
            except errors.OperationPendingError:
                continue

    with futures.ThreadPoolExecutor(4) as pool:
        made = set(pool.map(lambda i: make(i).id, range(8)))
    assert len(made) == 1
    assert [volume.id for volume in storage.backend.list(after=None, limit=10)] == [*made]


def test_another_name_is_another_volume(storage: conftest.Storage) -> None:
    assert storage.create(request("a")).id != storage.create(request("b")).id


@pytest.mark.parametrize("name", ["größe-🗄", "../../etc", "a/b", "x" * 10_000, "-", "a\nb"])
def test_any_name_makes_a_volume_with_a_well_formed_id(storage: conftest.Storage, name: str) -> None:
    made = storage.create(request(name))
    assert model.VolumeId.parse(made.id.value) == made.id
    assert storage.backend.get(made.id) == made


@pytest.mark.parametrize(
    "changed",
    [
        request(size=2 * model.MIB),
        request(size=1, limit=2),
        request(capabilities=(RWOP,)),
    ],
    ids=["larger", "smaller", "mode"],
)
def test_the_same_name_with_other_properties_is_refused(
    storage: conftest.Storage, changed: model.VolumeRequest
) -> None:
    made = storage.create(request())
    with pytest.raises(errors.VolumeExistsError):
        storage.create(changed)
    assert storage.backend.get(made.id) == made


def test_the_same_name_with_other_parameters_is_refused(storage: conftest.Storage) -> None:
    made = storage.create(request())
    with pytest.raises(errors.VolumeExistsError):
        storage.create(request(parameters=storage.other))
    assert storage.backend.get(made.id) == made


def test_a_range_that_the_existing_size_lies_in_finds_it(storage: conftest.Storage) -> None:
    made = storage.create(request(size=model.MIB))
    assert storage.create(request(size=1, limit=model.MIB)) == made
    assert storage.create(request(size=0)) == made


def test_the_claims_metadata_may_differ_between_calls(storage: conftest.Storage) -> None:
    made = storage.create(request(parameters={"csi.storage.k8s.io/pvc/name": "a"}))
    assert storage.create(request(parameters={"csi.storage.k8s.io/pvc/name": "b"})) == made


def test_an_unknown_parameter_is_refused_by_name(storage: conftest.Storage) -> None:
    with pytest.raises(errors.InvalidParameterError, match="colour"):
        storage.create(request(parameters={"colour": "blue"}))


def test_a_deleted_volume_is_gone(storage: conftest.Storage) -> None:
    made = storage.create(request())
    storage.backend.delete(made.id)
    with pytest.raises(errors.VolumeNotFoundError):
        storage.backend.get(made.id)
    assert [*storage.again.list(after=None, limit=10)] == []


@pytest.mark.parametrize("volume_id", ["no-such-volume", "d1-0", "mem-00", "x" * 127])
def test_deleting_what_does_not_exist_is_no_error(storage: conftest.Storage, volume_id: str) -> None:
    storage.backend.delete(model.VolumeId(volume_id))


def test_deleting_twice_is_no_error(storage: conftest.Storage) -> None:
    made = storage.create(request())
    storage.backend.delete(made.id)
    storage.backend.delete(made.id)


def test_a_volume_in_use_is_not_deleted(storage: conftest.Storage) -> None:
    made = storage.create(request())
    storage.use(made.id)
    with pytest.raises(errors.VolumeInUseError):
        storage.backend.delete(made.id)
    assert storage.backend.get(made.id) == made


@pytest.mark.parametrize("volume_id", ["no-such-volume", "d1-0123456789abcdef-" + "0" * 32, ".", "a"])
def test_a_volume_that_does_not_exist_is_not_found(storage: conftest.Storage, volume_id: str) -> None:
    with pytest.raises(errors.VolumeNotFoundError):
        storage.backend.get(model.VolumeId(volume_id))
    with pytest.raises(errors.VolumeNotFoundError):
        storage.backend.validate(model.VolumeId(volume_id), (RWO,), {})


def test_pages_hold_each_volume_once_in_order(storage: conftest.Storage) -> None:
    made = {storage.create(request(f"pvc-{number}", size=model.MIB)).id for number in range(7)}
    seen: list[model.VolumeId] = []
    page = storage.backend.list(after=None, limit=3)
    while page:
        seen.extend(volume.id for volume in page)
        page = storage.backend.list(after=seen[-1], limit=3)
    assert seen == sorted(made)


def test_a_page_that_is_not_full_is_the_last(storage: conftest.Storage) -> None:
    for number in range(3):
        storage.create(request(f"pvc-{number}"))
    assert len(storage.backend.list(after=None, limit=2)) == 2
    assert len(storage.backend.list(after=None, limit=4)) == 3


def test_a_listing_goes_on_behind_a_volume_that_is_gone(storage: conftest.Storage) -> None:
    made = sorted(storage.create(request(f"pvc-{number}")).id for number in range(3))
    storage.backend.delete(made[1])
    assert [volume.id for volume in storage.backend.list(after=made[1], limit=10)] == [made[2]]


def test_a_use_that_can_be_had_is_confirmed(storage: conftest.Storage) -> None:
    made = storage.create(request())
    assert storage.backend.validate(made.id, (RWO, RWOP), {}) is None


def test_a_use_that_cannot_be_had_is_explained(storage: conftest.Storage) -> None:
    made = storage.create(request())
    assert "ReadWriteMany" in str(storage.backend.validate(made.id, (RWO, RWX), {}))
    assert "parameters" in str(storage.backend.validate(made.id, (RWO,), storage.other))


def test_the_room_for_an_unknown_parameter_is_an_error(storage: conftest.Storage) -> None:
    with pytest.raises(errors.InvalidParameterError):
        storage.backend.capacity(capabilities=(RWO,), parameters={"colour": "blue"}, topology=None)


def test_a_working_storage_passes_its_probe(storage: conftest.Storage) -> None:
    storage.backend.probe()
