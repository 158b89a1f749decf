"""The way to the API server: each thing that can be wrong with it is named, and works again once it is mended."""

import asyncio
import base64
import io
import json
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.kube import certificates, client, config, errors, kubeconfig, objects
from tests.fakes import apiserver
from tests.harness import process
from tests.unit.kube import authority, conftest

Json = dict[str, Any]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> authority.Authority:
    return authority.Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> authority.Authority:
    return authority.Authority(tmp_path_factory.mktemp("stranger"))


def _server_tls(pair: authority.Pair) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a kubeconfig of one cluster and one user."""

    def written(cluster: Json, user: Json, **more: Any) -> Path:
        path = tmp_path / "kubeconfig"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "main",
            "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            **more,
        }
        path.write_text(yaml.safe_dump(document))
        return path

    return written


async def _list(source: config.Source) -> None:
    kube = client.Client(source, sleep=conftest.Pauses())
    try:
        await kube.list(objects.CLAIMS)
    finally:
        await kube.close()


def _trusting(server: str, ca: authority.Authority | None, server_name: str = "") -> config.Source:
    """Settings that trust this authority, or anybody."""
    text = ca.root.certificate.read_text() if ca else ""
    tls = config.tls_context(kubeconfig.Settings(server=server, ca=text, verify=bool(ca)))
    return config.Fixed(config.Connection(server, tls=tls, server_name=server_name))


async def test_certificates_may_be_data_or_files_beside_the_kubeconfig(
    ca: authority.Authority, write: Callable[..., Path], tmp_path: Path
) -> None:
    ours = ca.sign("client")
    (tmp_path / "ca.crt").write_bytes(ca.root.certificate.read_bytes())
    user = {"client-certificate-data": _data(ours.certificate), "client-key-data": _data(ours.key)}
    tls = _server_tls(ca.sign("server", address="127.0.0.1"))
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(ca.root.certificate)
    async with apiserver.FakeApiServer(tls=tls) as api:
        await _list(config.load(write({"server": api.url, "certificate-authority": "ca.crt"}, user)))
        assert api.count("list") == 1


async def test_no_key_is_left_in_a_temporary_file(
    ca: authority.Authority, write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    ours = ca.sign("client")
    user = {"client-certificate-data": _data(ours.certificate), "client-key-data": _data(ours.key)}
    await config.load(write({"server": "https://localhost"}, user)).connect()
    assert list(temporary.iterdir()) == []


async def test_a_token_is_sent_and_never_shown(write: Callable[..., Path]) -> None:
    connection = await config.load(write({"server": "http://localhost"}, {"token": "hush"})).connect()
    assert (connection.authorization, "hush" in repr(connection)) == ("Bearer hush", False)


async def test_another_context_may_be_named(write: Callable[..., Path]) -> None:
    path = write(
        {"server": "http://one"},
        {"token": "t"},
        contexts=[{"name": "main", "context": {"cluster": "c"}}, {"name": "two", "context": {"cluster": "d"}}],
        clusters=[
            {"name": "c", "cluster": {"server": "http://one"}},
            {"name": "d", "cluster": {"server": "http://two"}},
        ],
    )
    connection = await config.load(path, "two").connect()
    assert (connection.server, connection.authorization) == ("http://two", "")


async def test_a_proxy_and_a_server_name_are_kept(write: Callable[..., Path]) -> None:
    cluster = {"server": "https://localhost", "proxy-url": "http://proxy:3128", "tls-server-name": "kubernetes"}
    connection = await config.load(write(cluster, {"token": "t"})).connect()
    assert (connection.proxy, connection.server_name) == ("http://proxy:3128", "kubernetes")


async def test_a_token_file_is_read_again_every_minute(write: Callable[..., Path], tmp_path: Path) -> None:
    source = config.load(write({"server": "http://localhost"}, {"tokenFile": "token"}))
    tokens = []
    for token in ("one\n", "two\n"):
        (tmp_path / "token").write_text(token)
        connection = await source.connect()
        tokens.append((connection.authorization, connection.max_age))
    assert tokens == [("Bearer one", 60), ("Bearer two", 60)]


def _plugin(tmp_path: Path, body: str) -> Json:
    path = tmp_path / "plugin"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path), "interactiveMode": "Never"}}


async def test_an_exec_plugin_gives_a_token_until_it_expires(write: Callable[..., Path], tmp_path: Path) -> None:
    status = {"token": "from-plugin", "expirationTimestamp": "2000-01-01T00:00:00Z"}
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    user = _plugin(tmp_path, f"cat <<'END'\n{json.dumps(credential)}\nEND")
    connection = await config.load(write({"server": "http://localhost"}, user)).connect()
    assert (connection.authorization, connection.max_age) == ("Bearer from-plugin", 1.0)


async def test_an_exec_plugin_that_fails_is_quoted(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write({"server": "http://localhost"}, _plugin(tmp_path, "echo you must log in first >&2; exit 3"))
    with pytest.raises(errors.ConfigError, match=r"exec plugin gave no credentials.*you must log in first"):
        await config.load(path).connect()


def _runs(pids: Path) -> bool:
    """Whether the process lives; a zombie, until init has seen it, does not."""
    state = Path(f"/proc/{pids.read_text().strip()}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] not in "XZ"


async def test_an_exec_plugin_that_hangs_is_ended(write: Callable[..., Path], tmp_path: Path) -> None:
    pids = tmp_path / "pid"
    path = write({"server": "http://localhost"}, _plugin(tmp_path, f"echo $$ > {pids}; exec sleep 600"))
    with pytest.raises(errors.ConfigError, match="did not answer within 2 s"):
        await config.Kubeconfig(path, exec_seconds=1.5).connect()
    # Killed, it is gone when the kernel comes to it.
    await asyncio.to_thread(process.wait_until, lambda: not _runs(pids), seconds=10, what="the plugin's end")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("{", "malformed: ParserError"),
        ("[1, 2]", "malformed: "),
        ("current-context: x\n", "contexts"),
        ("current-context: m\ncontexts: [{name: m, context: {cluster: gone}}]\n", "gone"),
        (
            "current-context: m\ncontexts: [{name: m, context: {cluster: c}}]\nclusters: [{name: c, cluster: {}}]\n",
            "no server",
        ),
    ],
)
def test_a_kubeconfig_that_says_nothing_useful_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(errors.ConfigError, match=said):
        kubeconfig.read(str(path), "", io.StringIO())


async def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match=f"{tmp_path}/nowhere: there is no such file"):
        await config.load(tmp_path / "nowhere").connect()


async def test_a_file_that_the_kubeconfig_names_and_is_missing_is_named(write: Callable[..., Path]) -> None:
    path = write({"server": "https://localhost", "certificate-authority": "missing.crt"}, {"token": "t"})
    with pytest.raises(errors.ConfigError, match=r"missing\.crt"):
        await config.load(path).connect()


def test_an_authority_that_is_no_certificate_is_named() -> None:
    with pytest.raises(errors.ConfigError, match="certificate authority is not a PEM certificate"):
        config.tls_context(kubeconfig.Settings(server="https://localhost", ca="nonsense"))


def test_a_certificate_and_a_key_that_do_not_fit_are_named(ca: authority.Authority) -> None:
    certificate, key = ca.sign("one").certificate.read_text(), ca.sign("other").key.read_text()
    with pytest.raises(errors.ConfigError, match="client certificate and its key do not fit"):
        config.tls_context(kubeconfig.Settings(server="https://localhost", certificate=certificate, key=key))


async def test_a_client_certificate_that_has_expired_is_named_with_its_date(
    ca: authority.Authority, write: Callable[..., Path]
) -> None:
    ours = ca.sign("expired", days=-1)
    expiry = certificates.expiry(ours.certificate.read_text())
    assert expiry is not None
    user = {"client-certificate": str(ours.certificate), "client-key": str(ours.key)}
    with pytest.raises(errors.ConfigError, match=f"expired on {expiry:%Y-%m-%d %H:%M} UTC.*renew it"):
        await config.load(write({"server": "https://localhost"}, user)).connect()


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----", "hello"])
def test_what_is_no_certificate_has_no_expiry(text: str) -> None:
    assert certificates.expiry(text) is None


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"address": "127.0.0.1", "days": -1}, "its certificate has expired"),
        ({"address": "127.0.0.2"}, "its certificate is for another address"),
    ],
)
async def test_a_server_certificate_that_cannot_be_right_is_named(
    ca: authority.Authority, server: Json, said: str
) -> None:
    async with apiserver.FakeApiServer(tls=_server_tls(ca.sign("server", **server))) as api:
        with pytest.raises(errors.TlsError, match=said):
            await _list(_trusting(api.url, ca))


async def test_a_server_name_of_its_own_is_what_the_certificate_is_checked_for(ca: authority.Authority) -> None:
    async with apiserver.FakeApiServer(tls=_server_tls(ca.sign("kubernetes"))) as api:
        with pytest.raises(errors.TlsError):
            await _list(_trusting(api.url, ca))
        await _list(_trusting(api.url, ca, server_name="kubernetes"))


async def test_a_server_may_be_trusted_blindly(ca: authority.Authority) -> None:
    async with apiserver.FakeApiServer(tls=_server_tls(ca.sign("server"))) as api:
        await _list(_trusting(api.url, None))


async def test_an_unknown_authority_is_named_and_a_mended_kubeconfig_is_picked_up(
    ca: authority.Authority, stranger: authority.Authority, write: Callable[..., Path]
) -> None:
    async with apiserver.FakeApiServer(tls=_server_tls(ca.sign("server", address="127.0.0.1"))) as api:
        path = write({"server": api.url, "certificate-authority": str(stranger.root.certificate)}, {"token": "t"})
        kube = client.Client(config.load(path))
        with pytest.raises(errors.TlsError, match="put the cluster's CA into the kubeconfig"):
            await kube.list(objects.CLAIMS)
        write({"server": api.url, "certificate-authority": str(ca.root.certificate)}, {"token": "t"})
        await kube.list(objects.CLAIMS)
        await kube.close()


async def test_tls_where_the_server_speaks_none_is_named(api: apiserver.FakeApiServer, ca: authority.Authority) -> None:
    with pytest.raises(errors.TlsError, match="check that the address is the API server's"):
        await _list(_trusting(api.url.replace("http:", "https:"), ca))


def _service_account(directory: Path, ca: authority.Authority, address: str = "127.0.0.1") -> config.ServiceAccount:
    (directory / "token").write_text("one\n")
    (directory / "ca.crt").write_bytes(ca.root.certificate.read_bytes())
    environment = {"KUBERNETES_SERVICE_HOST": address, "KUBERNETES_SERVICE_PORT": "6443"}
    return config.ServiceAccount(directory, environment)


async def test_a_service_account_is_read_again_every_minute_and_keeps_its_connections(
    ca: authority.Authority, tmp_path: Path
) -> None:
    source = _service_account(tmp_path, ca)
    first = await source.connect()
    (tmp_path / "token").write_text("two\n")
    second = await source.connect()
    assert (first.server, first.max_age) == ("https://127.0.0.1:6443", 60)
    assert (first.authorization, second.authorization) == ("Bearer one", "Bearer two")
    assert first.tls is second.tls


async def test_an_address_of_ipv6_stands_in_brackets(ca: authority.Authority, tmp_path: Path) -> None:
    assert (await _service_account(tmp_path, ca, "fd00::1").connect()).server == "https://[fd00::1]:6443"


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
async def test_a_service_account_that_is_not_mounted_is_named(
    ca: authority.Authority, tmp_path: Path, missing: str
) -> None:
    source = _service_account(tmp_path, ca)
    (tmp_path / missing).unlink()
    with pytest.raises(errors.ConfigError, match=f"{missing}.*automountServiceAccountToken"):
        await source.connect()


async def test_an_empty_token_is_named(ca: authority.Authority, tmp_path: Path) -> None:
    source = _service_account(tmp_path, ca)
    (tmp_path / "token").write_text("")
    with pytest.raises(errors.ConfigError, match="token is empty"):
        await source.connect()


async def test_outside_of_a_pod_a_kubeconfig_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match="name a kubeconfig with --kubeconfig"):
        await config.ServiceAccount(tmp_path, {}).connect()


class _Counting:
    """Settings that are old after a minute."""

    def __init__(self, url: str) -> None:
        self.times = 0
        self.broken = False
        self._url = url

    async def connect(self) -> config.Connection:
        self.times += 1
        await asyncio.sleep(0)
        if self.broken:
            raise errors.ConfigError("the token is being replaced")
        return config.Connection(self._url, authorization=f"Bearer {self.times}", max_age=60)


async def test_settings_are_read_again_when_they_are_old_and_not_before(api: apiserver.FakeApiServer) -> None:
    now = 0.0
    source = _Counting(api.url)
    kube = client.Client(source, clock=lambda: now)
    await asyncio.gather(*(kube.list(objects.CLAIMS) for _ in range(3)))
    now = 59.0
    await kube.list(objects.CLAIMS)
    before = source.times
    now = 60.0
    await kube.list(objects.CLAIMS)
    assert (before, source.times) == (1, 2)
    await kube.close()


async def test_settings_that_cannot_be_read_again_are_used_until_they_are_refused(
    api: apiserver.FakeApiServer,
) -> None:
    now = 0.0
    source = _Counting(api.url)
    kube = client.Client(source, clock=lambda: now)
    await kube.list(objects.CLAIMS)
    source.broken, now = True, 60.0
    await kube.list(objects.CLAIMS)
    await kube.list(objects.CLAIMS)
    tried = source.times
    api.token = "another"
    with pytest.raises(errors.ConfigError, match="being replaced"):
        await kube.list(objects.CLAIMS)
    assert (tried, api.requests[-1].authorization) == (2, "Bearer 1")
    await kube.close()


async def test_many_requests_that_are_refused_at_once_read_the_settings_anew_once(
    api: apiserver.FakeApiServer,
) -> None:
    source = _Counting(api.url)
    kube = client.Client(source)
    await kube.list(objects.CLAIMS)
    api.token = "2"
    await asyncio.gather(*(kube.list(objects.CLAIMS) for _ in range(10)))
    assert source.times == 2
    await kube.close()
