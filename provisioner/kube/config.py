"""Where the API server is and who we are to it: from a Pod's service account, or from a kubeconfig.

A `Source` reads everything anew each time it is asked; `kube.transport` decides when. Credentials are never part of a
message, a log line or a `repr`.
"""

import asyncio
import dataclasses
import datetime
import os
import signal
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from provisioner.kube import certificates, errors, kubeconfig

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_FOR_EVER = float("inf")
# A bound token lives for an hour or more and the kubelet replaces its file at 80 % of that; client-go looks as often.
_TOKEN_FILE_SECONDS = 60.0
_EXPIRY_MARGIN_SECONDS = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Connection:
    """How to reach the API server.

    Attributes:
        server: base URL without a trailing slash.
        authorization: the header's value; empty where a client certificate, or nothing, says who we are.
        tls: `None` for plain HTTP.
        server_name: the name that the server's certificate is checked for; empty: the URL's host.
        proxy: URL of an HTTP proxy; empty: none.
        max_age: seconds after which all this is to be read again.
    """

    server: str
    authorization: str = dataclasses.field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    proxy: str = dataclasses.field(default="", repr=False)
    max_age: float = _FOR_EVER


class Source(Protocol):
    """Something that knows the connection settings."""

    async def connect(self) -> Connection:
        """Read the settings as they are now.

        Raises:
            errors.ConfigError: they are missing or wrong; it says which, and where.
        """


def load(kubeconfig_path: Path | None, context: str | None = None) -> Source:
    """The kubeconfig at this path (several, separated by `:`, are merged), or else the Pod's own service account.

    Nothing is read yet, so that a wrong file is an error of the first request, and is mended without a restart.
    """
    return Kubeconfig(kubeconfig_path, context or "") if kubeconfig_path else ServiceAccount()


@dataclasses.dataclass(frozen=True)
class Fixed:
    """Settings that never change."""

    connection: Connection

    async def connect(self) -> Connection:
        """The settings."""
        return self.connection


class _TlsCache:
    """Keeps the TLS context as long as its material is the same: connections are pooled by it."""

    def __init__(self) -> None:
        self._material: tuple[str, ...] = ()
        self._context: ssl.SSLContext | None = None

    def context(self, settings: kubeconfig.Settings) -> ssl.SSLContext:
        material = (settings.ca, settings.certificate, settings.key, str(settings.verify))
        if self._context is None or material != self._material:
            self._context = tls_context(settings)
            self._material = material
        return self._context


@dataclasses.dataclass
class ServiceAccount:
    """The service account of the Pod that this process runs in.

    Read here and not by `kubernetes.config`, whose import alone costs every Pod some 20 MB.
    """

    directory: Path = _SERVICE_ACCOUNT
    environment: Mapping[str, str] = dataclasses.field(default_factory=lambda: os.environ)
    _tls: _TlsCache = dataclasses.field(default_factory=_TlsCache, init=False)

    async def connect(self) -> Connection:
        """Read the token and the cluster's CA as they are now."""
        host = self.environment.get("KUBERNETES_SERVICE_HOST", "")
        port = self.environment.get("KUBERNETES_SERVICE_PORT", "")
        if not (host and port):
            raise errors.ConfigError(
                "this process does not run in a Pod: KUBERNETES_SERVICE_HOST and _PORT are not set",
                remedy="name a kubeconfig with --kubeconfig",
            )
        token = self._read("token")
        host = f"[{host}]" if ":" in host else host
        return Connection(
            server=f"https://{host}:{port}",
            authorization=f"Bearer {token}",
            tls=self._tls.context(kubeconfig.Settings(server="", ca=self._read("ca.crt"))),
            max_age=_TOKEN_FILE_SECONDS,
        )

    def _read(self, name: str) -> str:
        return _read_text(
            self.directory / name, "mount the service account's token (automountServiceAccountToken: true)"
        )


@dataclasses.dataclass
class Kubeconfig:
    """One context of a kubeconfig, as `kubernetes.config` reads it (see `kube.kubeconfig`)."""

    path: Path
    context: str = ""
    exec_seconds: float = 60.0
    _tls: _TlsCache = dataclasses.field(default_factory=_TlsCache, init=False)

    async def connect(self) -> Connection:
        """Read the file, and run its exec plugin where it has one."""
        settings = await self._loaded()
        _refuse_expired(settings, self.path)
        authorization, max_age = settings.authorization, _FOR_EVER
        if settings.token_file:
            authorization = f"Bearer {_read_text(Path(settings.token_file), f'check tokenFile in {self.path}')}"
            max_age = _TOKEN_FILE_SECONDS
        if settings.expires is not None:
            max_age = _seconds_left(settings.expires)
        return Connection(
            server=settings.server,
            authorization=authorization,
            tls=self._tls.context(settings) if settings.server.startswith("https:") else None,
            server_name=settings.server_name,
            proxy=settings.proxy,
            max_age=max_age,
        )

    async def _loaded(self) -> kubeconfig.Settings:
        """Run the loader in its own process: its memory, its temporary key files, a plugin that hangs go with it."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            kubeconfig.__name__,
            str(self.path),
            self.context,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), self.exec_seconds)
        except TimeoutError:
            raise errors.ConfigError(
                f"kubeconfig {self.path}: its exec plugin did not answer within {self.exec_seconds:.0f} s",
                remedy="run the plugin by hand; it must not ask questions",
            ) from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)  # the plugin as well
                await process.wait()
        return kubeconfig.answer(output, self.path)


def tls_context(settings: kubeconfig.Settings) -> ssl.SSLContext:
    """What the settings say of certificates.

    Raises:
        errors.ConfigError: one is malformed, or does not fit its key.
    """
    try:
        context = ssl.create_default_context(cadata=settings.ca or None)
    except ssl.SSLError as error:
        raise errors.ConfigError(
            f"the certificate authority is not a PEM certificate: {error.reason}",
            remedy="check certificate-authority(-data)",
        ) from error
    # Python 3.13 demands key usages that the CAs of older clusters do not have; client-go does not either.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.certificate:
        _load_key_pair(context, settings)
    return context


def _load_key_pair(context: ssl.SSLContext, settings: kubeconfig.Settings) -> None:
    """OpenSSL reads key pairs from files alone; this one is in memory and has no name."""
    memory = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(f"{settings.certificate}\n{settings.key}\n".encode())
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    except ssl.SSLError as error:
        raise errors.ConfigError(
            f"the client certificate and its key do not fit or are malformed: {error.reason}",
            remedy="check client-certificate(-data) and client-key(-data)",
        ) from error
    finally:
        os.close(memory)


def _refuse_expired(settings: kubeconfig.Settings, path: Path) -> None:
    """The API server would only say 401 to an expired client certificate."""
    expiry = certificates.expiry(settings.certificate) if settings.certificate else None
    if expiry is not None and expiry <= datetime.datetime.now(datetime.UTC):
        raise errors.ConfigError(
            f"the client certificate in kubeconfig {path} expired on {expiry:%Y-%m-%d %H:%M} UTC",
            remedy="renew it (for example `kubeadm certs renew`) and write it into the kubeconfig",
        )


def _seconds_left(expires: datetime.datetime) -> float:
    left = (expires - datetime.datetime.now(datetime.UTC)).total_seconds() - _EXPIRY_MARGIN_SECONDS
    return max(left, 1.0)


def _read_text(path: Path, remedy: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.ConfigError(f"cannot read {path}: {error}", remedy=remedy) from error
    if not text:
        raise errors.ConfigError(f"{path} is empty", remedy=remedy)
    return text
