"""Generates the messages of `protos/` into `provisioner/generated/` with every build: wheel, editable and sdist alike.

protoc maps `protos/` to the virtual path `provisioner/generated/`, so the generated modules import each other by the
names under which they are installed. mypy-protobuf writes the stubs beside them: for grpc.aio, which is all that the
program uses, and with servicers whose methods are not abstract, because an unimplemented call is an answer in CSI.
"""

import importlib.resources
import os
import sysconfig
from pathlib import Path
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "provisioner/generated"
INIT = '"""The CSI and kubelet registration messages; generated from `protos/` by hatch_build.py, never edited."""\n'


class GenerateMessages(BuildHookInterface[Any]):
    """hatchling's hook; named by `[tool.hatch.build.hooks.custom]`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Generate before hatchling collects the files."""
        generate(Path(self.root))


def generate(root: Path) -> None:
    """Write `root/provisioner/generated` from `root/protos`; what stood there before goes.

    Raises:
        RuntimeError: protoc refused a file; it has said on stderr which line, and why.
    """
    target = root / PACKAGE
    target.mkdir(exist_ok=True)
    protos = sorted((root / "protos").glob("*.proto"))
    wanted = {"__init__.py"} | {f"{proto.stem}_{part}" for proto in protos for part in _PARTS}
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={PACKAGE}={root / 'protos'}",
            f"--proto_path={importlib.resources.files('grpc_tools') / '_proto'}",
            f"--plugin=protoc-gen-mypy={_script('protoc-gen-mypy')}",
            f"--plugin=protoc-gen-mypy_grpc={_script('protoc-gen-mypy_grpc')}",
            "--mypy_opt=quiet",
            "--mypy_grpc_opt=quiet,only_async,generate_concrete_servicer_stubs",
            *(f"--{output}_out={root}" for output in ("python", "grpc_python", "mypy", "mypy_grpc")),
            *(f"{PACKAGE}/{proto.name}" for proto in protos),
        ]
    )
    if status != 0:
        raise RuntimeError(f"protoc failed with status {status} on {', '.join(p.name for p in protos)}")
    (target / "__init__.py").write_text(INIT, encoding="utf-8")
    for stale in target.iterdir():
        if stale.is_file() and stale.name not in wanted:
            stale.unlink()


_PARTS = ("pb2.py", "pb2.pyi", "pb2_grpc.py", "pb2_grpc.pyi")


def _script(name: str) -> str:
    """The program beside the interpreter that runs the build; PATH where it is not there."""
    beside = Path(sysconfig.get_path("scripts")) / name
    return os.fspath(beside) if beside.exists() else name
