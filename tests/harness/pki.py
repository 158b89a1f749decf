"""The certificates and kubeconfigs of one cluster, made by the openssl program: one authority signs everything."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.harness import errors

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Authority:
    """A certificate authority, and the files that it has signed.

    Attributes:
        folder: holds `ca.crt`, `ca.key`, `sa.key`, `sa.pub` (of the service accounts) and all that is issued.
        certificate: the authority's own.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self.certificate = folder / "ca.crt"
        self.key = folder / "ca.key"
        self.service_account_key = folder / "sa.key"
        self.service_account_public_key = folder / "sa.pub"
        _openssl(
            *("req", "-x509", *_KEY, "-days", "365", "-subj", "/CN=sandbox"),
            *("-keyout", self.key, "-out", self.certificate),
        )
        _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.service_account_key)
        _openssl("pkey", "-in", self.service_account_key, "-pubout", "-out", self.service_account_public_key)

    def issue(
        self, name: str, user: str, *, groups: Sequence[str] = (), hosts: Sequence[str] = (), days: int = 365
    ) -> tuple[Path, Path]:
        """Sign a certificate for a user in groups, which may also serve as `hosts` (`DNS:…`, `IP:…`): it and its key.

        With `days` at -1 or less it has expired already.
        """
        certificate, key, request = (self.folder / f"{name}.{suffix}" for suffix in ("crt", "key", "csr"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(
            "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n"
            + (f"subjectAltName={','.join(hosts)}\n" if hosts else "")
        )
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
        _openssl("req", *_KEY, "-subj", subject, "-keyout", key, "-out", request)
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial"),
            *("-days", str(days), "-extfile", extensions, "-out", certificate),
        )
        return certificate, key

    def kubeconfig(self, name: str, server: str, user: dict[str, str]) -> Path:
        """A kubeconfig for one user (fields as in a kubeconfig's `user`), with `sandbox` as all its names."""
        path = self.folder / f"{name}.kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "sandbox", "cluster": {"server": server, "certificate-authority": str(self.certificate)}}
            ],
            "users": [{"name": "sandbox", "user": user}],
            "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "sandbox"}}],
            "current-context": "sandbox",
        }
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        path.chmod(0o600)
        return path


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["openssl", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise errors.HarnessError(f"openssl {arguments[0]} failed:\n{done.stderr}")
