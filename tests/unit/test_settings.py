"""Settings: three sources, one declaration, every fault at once."""

import datetime
from collections.abc import Mapping
from pathlib import Path

import pytest

from provisioner import settings


def load(
    file: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> settings.Settings:
    return settings.load(settings.ALL_GROUPS, file=file or {}, environment=environment or {}, flags=flags or {})


def faults(
    file: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> tuple[str, ...]:
    with pytest.raises(settings.SettingsError) as raised:
        load(file, environment, flags)
    return raised.value.faults


def test_a_flag_wins_over_the_environment_and_the_environment_over_the_file() -> None:
    file = {"driver-name": "file", "node-name": "file", "context": "file"}
    environment = {"PROVISIONER_NODE_NAME": "environment", "PROVISIONER_CONTEXT": "environment"}

    loaded = load(file, environment, {"context": "flag"})

    assert loaded[settings.Driver].driver_name == "file"
    assert loaded[settings.Node].node_name == "environment"
    assert loaded[settings.Kubernetes].context == "flag"


def test_every_fault_is_reported_at_once_under_the_name_by_which_it_was_given() -> None:
    assert faults(
        file={"drivr-name": "x"},
        environment={"PROVISIONER_CSI_WORKERS": "0"},
        flags={"binding": "fast", "csi_timeout": "ten", "pool": "nameless"},
    ) == (
        "drivr-name (in the file): there is no such setting; did you mean driver-name?",
        "PROVISIONER_CSI_WORKERS: '0' is not a whole number from 1 on",
        "--pool: 'nameless' is not of the form name=path,name=path",
        "--binding: 'fast' is not one of eager, controller",
        "--csi-timeout: 'ten' is not a duration such as 10s, 5m or 1h30m",
    )


def test_durations_are_written_as_kubernetes_writes_them() -> None:
    assert load(flags={"csi_timeout": "1m30s"})[settings.Watcher].csi_timeout == datetime.timedelta(seconds=90)


def test_sizes_are_written_as_kubernetes_writes_them() -> None:
    assert load(flags={"pool_spare": "10Gi"})[settings.Directory].pool_spare == 10 * 1024**3


@pytest.mark.parametrize("given", ["-1", "10GiB", "much"])
def test_a_size_that_is_none_is_refused(given: str) -> None:
    assert len(faults(flags={"pool_spare": given})) == 1


def test_a_negative_duration_is_refused() -> None:
    assert faults(flags={"csi_timeout": "-1s"}) == ("--csi-timeout: '-1s' is negative",)


@pytest.mark.parametrize("given", ["fast=/mnt/a,slow=/mnt/b", {"fast": "/mnt/a", "slow": "/mnt/b"}])
def test_pools_are_pairs_in_a_text_or_a_mapping(given: object) -> None:
    expected = {"fast": Path("/mnt/a"), "slow": Path("/mnt/b")}
    assert dict(load(flags={"pool": given})[settings.Directory].pool) == expected


def test_one_pool_given_twice_is_refused_instead_of_the_last_winning() -> None:
    assert faults(flags={"pool": "a=/x,a=/y"}) == ("--pool: 'a=/x,a=/y' names one pool twice",)


def test_other_programs_variables_are_not_ours_to_judge() -> None:
    load(environment={"PROVISIONER_METRICS_PORT": "tcp://10.0.0.1:80"})


def test_every_setting_has_a_help_text_and_a_name_of_its_own() -> None:
    declared = list(settings.fields(settings.ALL_GROUPS))
    assert all(field.help for field in declared)
    assert len({field.name for field in declared}) == len(declared)
