"""Reads a kubeconfig with the loader of the `kubernetes` package, in a process of its own.

`python -m provisioner.kube.kubeconfig PATH CONTEXT` prints one JSON document: the `Settings`, or the fault. The parent
(`kube.config`) thereby keeps its memory (the package costs 20 to 35 MB), is not blocked by an exec plugin, and no key
is left in a temporary file: the loader's files go with its process.
"""

import datetime
import importlib
import io
import logging
import sys
from pathlib import Path
from typing import Any

import msgspec

from provisioner.kube import errors


class Settings(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a context of a kubeconfig comes to; certificates and keys as PEM text.

    Attributes:
        ca: empty: the system's authorities.
        authorization: the header's value.
        token_file: a file whose content is the bearer token, and changes; then `authorization` is empty.
        expires: when the credentials of an exec plugin do.
    """

    server: str
    ca: str = ""
    certificate: str = ""
    key: str = ""
    verify: bool = True
    server_name: str = ""
    proxy: str = ""
    authorization: str = ""
    token_file: str = ""
    expires: datetime.datetime | None = None

    def __repr__(self) -> str:
        return f"Settings({self.server!r})"


class _Fault(msgspec.Struct, frozen=True):
    fault: str


def answer(output: bytes, path: Path) -> Settings:
    """What the loader's process printed.

    Raises:
        errors.ConfigError: the kubeconfig is missing or wrong.
    """
    remedy = "check the file and the context; it is read again"
    try:
        return msgspec.json.decode(output, type=Settings)
    except msgspec.MsgspecError:
        pass
    try:
        fault = msgspec.json.decode(output, type=_Fault).fault
    except msgspec.MsgspecError:
        fault = "the loader died without a word"
    raise errors.ConfigError(f"kubeconfig {path}: {fault}", remedy=remedy)


def read(path: str, context: str, complaints: io.StringIO) -> Settings:
    """Load the context (the current one where it is empty), running its exec plugin where it has one.

    Args:
        complaints: where the loader's log goes; what a plugin says is nowhere else.

    Raises:
        errors.ConfigError: with the bare fault as its message.
    """
    if not any(Path(part).expanduser().exists() for part in path.split(":") if part):
        raise errors.ConfigError("there is no such file")
    # Imported where its cost is paid; it has no types.
    library: Any = importlib.import_module("kubernetes.config.kube_config")
    try:
        merged = library.KubeConfigMerger(path).config
        loader = library.KubeConfigLoader(config_dict=merged, active_context=context or None, config_base_path=None)
        target = library.Configuration()
        target.proxy = None
        loader.load_and_set(target)
    except library.ConfigException as error:
        raise errors.ConfigError(str(error)) from error
    except Exception as error:  # a file of the wrong shape is whatever the loader's code then runs into
        raise errors.ConfigError(f"malformed: {type(error).__name__}: {error}") from error
    return _settings(loader, target, complaints.getvalue().strip())


def _settings(loader: Any, target: Any, complaints: str) -> Settings:
    user = loader._user.value if loader._user else {}  # noqa: SLF001 - the loader offers no other view of it
    if not loader._cluster.safe_get("server"):  # noqa: SLF001 - likewise
        raise errors.ConfigError("its cluster has no server")
    token_file = "" if user.get("token") else user.get("tokenFile", "")
    if token_file:
        token_file = str(Path(loader._user.path).parent.absolute() / token_file)  # noqa: SLF001 - likewise
    authorization = "" if token_file else target.api_key.get("BearerToken", "")
    if "exec" in user and not (authorization or target.cert_file):
        raise errors.ConfigError(f"its exec plugin gave no credentials: {complaints or 'it said nothing'}")
    return Settings(
        server=target.host,
        ca=_text(target.ssl_ca_cert),
        certificate=_text(target.cert_file),
        key=_text(target.key_file),
        verify=target.verify_ssl,
        server_name=target.tls_server_name or "",
        proxy=target.proxy or "",
        authorization=authorization,
        token_file=token_file,
        expires=getattr(loader, "expiry", None),
    )


def _text(path: str | None) -> str:
    return Path(path).read_text(encoding="utf-8") if path else ""


def main() -> int:
    """Print what the kubeconfig says."""
    path, context = sys.argv[1:]
    complaints = io.StringIO()
    logging.basicConfig(stream=complaints, level=logging.ERROR, format="%(message)s")
    result: Settings | _Fault
    try:
        result = read(path, context, complaints)
    except errors.ConfigError as error:
        result = _Fault(error.message)
    sys.stdout.buffer.write(msgspec.json.encode(result))
    return 0 if isinstance(result, Settings) else 1


if __name__ == "__main__":
    sys.exit(main())
