"""A process that serves a volume is moved out of the container's control groups, in every hierarchy there is."""

import os
from pathlib import Path

import pytest

from provisioner import errors
from provisioner.node import outlive

_NOBODY = 2**22 + 1
"""Larger than the largest process id of Linux."""


def test_with_one_hierarchy_the_process_is_moved_to_its_top_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "kubepods").mkdir()
    for group in (tmp_path, tmp_path / "kubepods"):
        (group / "cgroup.procs").write_text("")
    outlive.leave_container(42, top=tmp_path)
    assert (tmp_path / "cgroup.procs").read_text() == "42"
    assert (tmp_path / "kubepods" / "cgroup.procs").read_text() == ""


def test_with_several_hierarchies_it_is_moved_in_each_but_once(tmp_path: Path) -> None:
    for name in ("memory", "pids"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").write_text("")
    (tmp_path / "alias").symlink_to("memory")
    outlive.leave_container(42, top=tmp_path)
    assert {name: (tmp_path / name / "cgroup.procs").read_text() for name in ("memory", "pids")} == {
        "memory": "42",
        "pids": "42",
    }


def test_where_there_are_no_control_groups_nothing_happens(tmp_path: Path) -> None:
    outlive.leave_container(42, top=tmp_path)


@pytest.mark.skipif(os.geteuid() != 0 or not outlive.CGROUPS.exists(), reason="control groups are root's: run as root")
def test_a_process_that_has_ended_is_an_error() -> None:
    with pytest.raises(errors.BackendUnavailableError, match="ended at once"):
        outlive.leave_container(_NOBODY)


def test_a_process_that_was_not_found_is_an_error_and_not_this_one(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("")
    with pytest.raises(errors.BackendUnavailableError, match="ended at once"):
        outlive.leave_container(0, top=tmp_path)
    assert (tmp_path / "cgroup.procs").read_text() == ""
