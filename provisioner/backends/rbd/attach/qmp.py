"""The part of the QEMU Monitor Protocol that is needed: one command to a daemon, over its unix socket."""

import json
import socket
from pathlib import Path
from typing import Any

from provisioner import errors


def execute(path: Path, command: str, arguments: dict[str, Any], *, seconds: float = 10) -> Any:
    """Have the daemon behind the socket carry out a command; what it returns.

    Raises:
        errors.BackendUnavailableError: it cannot be reached, does not answer in time, or refuses.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect(str(path))
            with connection.makefile("rwb") as stream:
                stream.readline()  # The greeting.
                _ask(stream, "qmp_capabilities", {})
                return _ask(stream, command, arguments)
    except (OSError, ValueError) as error:
        raise errors.BackendUnavailableError(
            f"the daemon that serves the volume does not answer: {error}", remedy="see whether Ceph answers this node"
        ) from error


def _ask(stream: Any, command: str, arguments: dict[str, Any]) -> Any:
    stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
    stream.flush()
    while line := stream.readline():
        answer = json.loads(line)
        if "error" in answer:
            raise errors.BackendUnavailableError(
                f"the daemon that serves the volume refuses {command}: {answer['error'].get('desc', '')}"
            )
        if "return" in answer:
            return answer["return"]
    raise OSError("it has closed the connection")
