"""The few messages of Ceph's object classes that the client sends itself, where librbd would open the image first.

Numbers are little-endian; a text or a blob is its length in four bytes, then its bytes. See `src/cls/rbd/cls_rbd.cc`
and `src/cls/lock/cls_lock_ops.h` of Ceph. The methods have kept their form since images of format 2 exist.
"""

import struct
from collections.abc import Mapping

_COUNT = struct.Struct("<I")
_LONG = struct.Struct("<Q")
_SIZE = struct.Struct("<BQ")
_HEAD = struct.Struct("<BBI")
_NO_SNAPSHOT = 0xFFFF_FFFF_FFFF_FFFE
_EXCLUSIVE = b"\x01"


def text(value: str) -> bytes:
    """A text."""
    encoded = value.encode()
    return _COUNT.pack(len(encoded)) + encoded


def read_text(body: bytes) -> str:
    """The one text that a body is, as in the object `rbd_id.NAME`."""
    (length,) = _COUNT.unpack_from(body)
    return _decoded(body[_COUNT.size : _COUNT.size + length])


def head_revision() -> bytes:
    """The request of `rbd.get_size` for the image itself and none of its snapshots."""
    return _LONG.pack(_NO_SNAPSHOT)


def read_size(body: bytes) -> int:
    """The answer of `rbd.get_size`: bytes."""
    _order, size = _SIZE.unpack_from(body)
    return int(size)


def metadata_page(after: str, limit: int) -> bytes:
    """The request of `rbd.metadata_list`: at most `limit` pairs whose keys come behind `after`."""
    return text(after) + _LONG.pack(limit)


def pairs(given: Mapping[str, str]) -> bytes:
    """The request of `rbd.metadata_set`."""
    return _COUNT.pack(len(given)) + b"".join(text(key) + text(value) for key, value in given.items())


def read_pairs(body: bytes) -> dict[str, str]:
    """The answer of `rbd.metadata_list`."""
    (count,) = _COUNT.unpack_from(body)
    found, at = [], _COUNT.size
    for _ in range(2 * count):
        (length,) = _COUNT.unpack_from(body, at)
        at += _COUNT.size
        found.append(_decoded(body[at : at + length]))
        at += length
    return dict(zip(found[::2], found[1::2], strict=True))


def assert_locked(name: str, cookie: str) -> bytes:
    """The request of `lock.assert_locked`: that we hold the exclusive lock of this name with this cookie."""
    body = text(name) + _EXCLUSIVE + text(cookie) + text("")
    return _HEAD.pack(1, 1, len(body)) + body


def _decoded(value: bytes) -> str:
    """Metadata may be anybody's, and need not be UTF-8."""
    return value.decode(errors="backslashreplace")
