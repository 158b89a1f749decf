"""What the log shows of an unexpected error."""

import subprocess
import sys

import pytest

_PROGRAM = """
import sys
import structlog
from provisioner import logs
from provisioner.generated import csi_pb2

def serve(request):
    secrets = dict(request.secrets)
    raise KeyError(len(secrets))

logs.configure(level="info", log_format=sys.argv[1])
try:
    serve(csi_pb2.CreateVolumeRequest(secrets={"key": sys.stdin.read()}))
except KeyError:
    structlog.get_logger().exception("call failed unexpectedly")
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_names_the_place_and_keeps_the_secrets(log_format: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, log_format], input="hunter2", capture_output=True, text=True, check=True
    )
    assert "serve" in done.stderr
    assert "KeyError" in done.stderr
    assert "hunter2" not in done.stderr
