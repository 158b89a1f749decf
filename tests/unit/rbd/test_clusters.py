"""The clusters file: read again when it changes, and readable about its faults without ever showing a key."""

from pathlib import Path

import pytest

from provisioner import errors
from provisioner.backends.rbd import clusters, ids

SECRET = "AQBkEyVlAAAAABAA+secret+key=="
WHOLE = f"- {{clusterID: prod, monitors: [10.0.0.1, 10.0.0.2], user: client.kube, key: {SECRET}}}\n"


def write(path: Path, text: str) -> clusters.Clusters:
    path.write_text(text)
    return clusters.Clusters(path)


def test_a_cluster_is_read(tmp_path: Path) -> None:
    read = write(tmp_path / "c.yaml", WHOLE).all()
    assert [(each.cluster, each.monitors, each.user, each.key) for each in read] == [
        ("prod", ("10.0.0.1", "10.0.0.2"), "kube", SECRET)
    ]
    assert SECRET not in repr(read)


def test_a_directory_of_files_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(WHOLE)
    (tmp_path / "b.yml").write_text(WHOLE.replace("prod", "test"))
    (tmp_path / "..data").mkdir()
    assert [each.cluster for each in clusters.Clusters(tmp_path).all()] == ["prod", "test"]


def test_a_key_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("first\n")
    known = write(tmp_path / "c.yaml", "- {clusterID: prod, monitors: [a], user: kube, keyFile: key}\n")
    assert known.all()[0].key == "first"
    (tmp_path / "key").write_text("second\n")
    assert known.all()[0].key == "second"


def test_monitors_that_moved_count_from_the_next_look_on(tmp_path: Path) -> None:
    known = write(tmp_path / "c.yaml", WHOLE)
    known.all()
    (tmp_path / "c.yaml").write_text(WHOLE.replace("10.0.0.2", "10.0.0.3"))
    assert known.all()[0].monitors == ("10.0.0.1", "10.0.0.3")


def test_a_secret_volume_that_is_swapped_counts(tmp_path: Path) -> None:
    for number, key in enumerate(("first", "second")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "c.yaml").write_text(WHOLE.replace(SECRET, key))
    (tmp_path / "now").symlink_to("0")
    known = clusters.Clusters(tmp_path / "now" / "c.yaml")
    assert known.all()[0].key == "first"
    (tmp_path / "now").unlink()
    (tmp_path / "now").symlink_to("1")
    assert known.all()[0].key == "second"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"- clusterID: prod\n  key: [{SECRET}\n", "no YAML in line"),
        (f"{SECRET}\n", "list of clusters"),
        (f"- {SECRET}\n", "entry 1"),
        (WHOLE.replace("clusterID: prod", "clusterId: prod"), "no clusterID"),
        (WHOLE.replace("[10.0.0.1, 10.0.0.2]", "[]"), "'prod' has no monitors"),
        (WHOLE.replace("10.0.0.2", "'10.0.0.1:3300'"), "'prod' has one monitor's address twice"),
        (WHOLE.replace("[10.0.0.1,", "['[v2:10.0.0.2:3300/0,v1:10.0.0.2:6789/0]',"), "address twice"),
        (WHOLE.replace("user: client.kube", "user: 7"), "'prod' has no user"),
        (WHOLE.replace(f", key: {SECRET}", ""), "'prod' must have either key or keyFile"),
        (WHOLE.replace(f"key: {SECRET}", "key: ''"), "'prod' has an empty key"),
        (WHOLE.replace(f"key: {SECRET}", "keyFile: nowhere"), "nowhere, which cannot be read"),
        (WHOLE.replace("user:", "pool: x, user:"), "unknown key 'pool'"),
        (WHOLE + WHOLE, "cannot be told apart"),
    ],
)
def test_a_fault_is_named_with_its_file_and_without_the_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(errors.BackendUnavailableError, match=said) as fault:
        write(tmp_path / "c.yaml", text).all()
    assert "c.yaml" in str(fault.value)
    assert SECRET not in str(fault.value)
    assert SECRET not in repr(fault.value.__cause__)


def test_a_file_that_is_missing_is_named_and_read_when_it_is_there(tmp_path: Path) -> None:
    known = clusters.Clusters(tmp_path / "c.yaml")
    with pytest.raises(errors.BackendUnavailableError, match=r"c\.yaml: it cannot be read"):
        known.all()
    (tmp_path / "c.yaml").write_text(WHOLE)
    assert len(known.all()) == 1


def test_a_cluster_is_found_by_what_an_id_carries(tmp_path: Path) -> None:
    known = write(tmp_path / "c.yaml", WHOLE)
    found = known.by_digits(ids.cluster_digits("prod"))
    assert found is not None
    assert found.cluster == "prod"
    assert known.by_digits("00000000") is None
