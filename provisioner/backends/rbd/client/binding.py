"""Finds Ceph's Python binding, which is no package of the Python index: it comes with the system's own Python.

A plain import is tried first. Debian's modules are then loaded from their files, because a virtual environment does not
see Debian's folder and shall not see the rest of it. Only the file for this very Python will do.
"""

import dataclasses
import functools
import importlib
import importlib.machinery
import importlib.util
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from provisioner.backends.rbd.client import errors

SYSTEM = Path("/usr/lib/python3/dist-packages")
_loading = threading.Lock()


@dataclasses.dataclass(frozen=True, slots=True)
class Binding:
    """The two modules; they come without types."""

    rados: Any
    rbd: Any


@functools.cache
def load() -> Binding:
    """The binding of this machine. A failure is not remembered: it may be installed meanwhile.

    Raises:
        errors.BindingMissingError: it is not there, or not for this Python, or a library of Ceph's is missing.
    """
    with _loading:
        return Binding(rados=module("rados", (SYSTEM,)), rbd=module("rbd", (SYSTEM,)))


def module(name: str, folders: Sequence[Path]) -> ModuleType:
    """The module as this Python imports it, or else from the first of these folders that has it. Raises as `load`."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        pass
    except ImportError as error:
        raise _broken(name, str(error)) from error
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    for path in (folder / f"{name}{suffix}" for folder in folders for suffix in suffixes):
        if path.exists():
            return _from_file(name, path)
    raise errors.BindingMissingError(
        f"Ceph's Python module {name} is not there for Python {sys.version_info.major}.{sys.version_info.minor}",
        remedy="install Debian's python3-rados and python3-rbd, and run the driver with the Python they are for",
    )


def _from_file(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise _broken(name, f"{path} is no module")
    try:
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # rbd imports rados
        spec.loader.exec_module(module)
    except ImportError as error:
        sys.modules.pop(name, None)
        raise _broken(name, str(error)) from error
    return module


def _broken(name: str, why: str) -> errors.BindingMissingError:
    return errors.BindingMissingError(
        f"Ceph's Python module {name} cannot be loaded: {why}",
        remedy="install librados2, librbd1, python3-rados and python3-rbd of one and the same Ceph version",
    )
