"""When a certificate expires, read from its DER encoding (RFC 5280, section 4.1): all that is needed of X.509 here."""

import binascii
import datetime
import ssl

_SEQUENCE = 0x30
_VERSION = 0xA0
_UTC_TIME = 0x17


def expiry(pem: str) -> datetime.datetime | None:
    """`notAfter` of the first certificate in the text; `None` where there is none that can be read."""
    end = pem.find("-----END CERTIFICATE-----")
    start = pem.find("-----BEGIN CERTIFICATE-----")
    if start < 0 or end < start:
        return None
    try:
        der = ssl.PEM_cert_to_DER_cert(pem[start : end + len("-----END CERTIFICATE-----")])
        return _not_after(der)
    except (ValueError, IndexError, binascii.Error):
        return None


def _not_after(der: bytes) -> datetime.datetime:
    """Certificate → tbsCertificate → [version] serial signature issuer → validity → notBefore, notAfter."""
    _, tbs_at, _ = _element(der, 0, _SEQUENCE)
    _, at, _ = _element(der, tbs_at, _SEQUENCE)
    if der[at] == _VERSION:
        at = _element(der, at)[2]
    for _ in ("serial", "signature", "issuer"):
        at = _element(der, at)[2]
    _, not_before_at, _ = _element(der, at, _SEQUENCE)
    not_after_at = _element(der, not_before_at)[2]
    tag, start, end = _element(der, not_after_at)
    # strptime's %y puts 69 to 99 into the last century; RFC 5280 puts the border at 50, which matters to nobody here.
    layout = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.datetime.strptime(der[start:end].decode("ascii"), layout).replace(tzinfo=datetime.UTC)


def _element(der: bytes, at: int, wanted: int | None = None) -> tuple[int, int, int]:
    """One DER element: its tag, where its content begins and where it ends."""
    tag, length, start = der[at], der[at + 1], at + 2
    if length & 0x80:  # the long form: the length of the length
        start += length & 0x7F
        length = int.from_bytes(der[at + 2 : start], "big")
    if wanted is not None and tag != wanted:
        raise ValueError(f"tag {tag:#x} where {wanted:#x} was to be")
    return tag, start, start + length
