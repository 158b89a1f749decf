"""Runs csi-sanity, the CSI community's own conformance suite, and reads what it found."""

import dataclasses
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

_SECONDS = 300


@dataclasses.dataclass(frozen=True)
class Suite:
    """How a driver has to be asked.

    Attributes:
        volume_size: bytes; small enough for any pool, where csi-sanity's default is 10 GiB.
        parameters: of the class.
        access_type: `mount`, or `block` for raw block volumes.
    """

    volume_size: int = 1 << 20
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    access_type: str = "mount"


@dataclasses.dataclass(frozen=True)
class Report:
    """What csi-sanity found.

    Attributes:
        passed: names of the cases that passed; likewise `failed`, `pending` (switched off by csi-sanity itself).
        skipped: why a case was skipped, by its name.
        output: what csi-sanity printed.
    """

    exit_status: int
    passed: list[str]
    failed: list[str]
    pending: list[str]
    skipped: dict[str, str]
    output: str


def run(program: Path, suite: Suite, *, driver_pid: int, socket: Path, scratch: Path) -> Report:
    """Run all of the suite against the driver, in the driver's own mount namespace."""
    results, parameters = scratch / "junit.xml", scratch / "parameters.yaml"
    parameters.write_text(json.dumps(dict(suite.parameters)))
    answer = subprocess.run(
        [
            *("nsenter", "--mount", f"--target={driver_pid}", program),
            f"-csi.endpoint={socket}",
            f"-csi.mountdir={scratch / 'target'}",
            f"-csi.stagingdir={scratch / 'staging'}",
            f"-csi.testvolumesize={suite.volume_size}",
            f"-csi.testvolumeexpandsize={2 * suite.volume_size}",
            f"-csi.testvolumeparameters={parameters}",
            f"-csi.testvolumeaccesstype={suite.access_type}",
            f"-csi.junitfile={results}",
            "-ginkgo.no-color",
        ],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    output = answer.stdout + answer.stderr
    if not results.exists():
        raise RuntimeError(f"csi-sanity ended with {answer.returncode} and no report:\n{output}")
    return _read(results, answer.returncode, output)


def _read(results: Path, exit_status: int, output: str) -> Report:
    by_status: dict[str, list[str]] = {"passed": [], "failed": [], "pending": [], "skipped": []}
    reasons = {}
    for case in ET.parse(results).iter("testcase"):
        name, status = case.get("name", ""), case.get("status", "")
        # Whatever else there is (panicked, timed out, interrupted) is a failure.
        by_status.get(status, by_status["failed"]).append(name)
        reason = case.find("skipped")
        if status == "skipped" and reason is not None:
            reasons[name] = reason.get("message", "").removeprefix("skipped - ")
    return Report(exit_status, by_status["passed"], by_status["failed"], by_status["pending"], reasons, output)
