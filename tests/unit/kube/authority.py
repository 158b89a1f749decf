"""A certificate authority for tests, by the openssl program."""

import dataclasses
import subprocess
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Pair:
    """A certificate and its key, both files in PEM."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates; everything lies in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.root = Pair(directory / "ca.crt", directory / "ca.key")
        self._openssl(
            *("req", "-x509", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-subj", "/CN=test-ca", "-days", "2", "-keyout", self.root.key, "-out", self.root.certificate),
        )

    def sign(self, name: str, *, address: str = "", days: int = 1) -> Pair:
        """A certificate for the name; one that has expired where `days` is negative."""
        pair = Pair(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        request, extensions = self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={f'IP:{address}' if address else f'DNS:{name}'}\n")
        self._openssl(
            *("req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-subj", f"/CN={name}", "-keyout", pair.key, "-out", request),
        )
        self._openssl(
            *("x509", "-req", "-in", request, "-CA", self.root.certificate, "-CAkey", self.root.key),
            *("-CAcreateserial", "-days", str(days), "-extfile", extensions, "-out", pair.certificate),
        )
        return pair

    def _openssl(self, *arguments: str | Path) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=self._directory)
