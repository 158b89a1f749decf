"""Pages of ListVolumes and ListSnapshots: the token is the last id of a page.

So a listing goes on at the right place when entries come or go meanwhile, also the one that the token names, and also
after a restart. Callers are told only that a token is opaque.
"""

from collections.abc import Sequence
from typing import TypeVar

from provisioner import errors, model

_Id = TypeVar("_Id", model.VolumeId, model.SnapshotId)

# 1,000 entries are about 300 KB; gRPC's default limit for one message is 4 MB.
_MAX_PAGE = 1000
_MARK = ">"


def limit(max_entries: int) -> int:
    """How many entries a page has; 0 leaves it to us.

    Raises:
        errors.InvalidRequestError: less than none is asked for.
    """
    if max_entries < 0:
        raise errors.InvalidRequestError(f"max_entries is {max_entries}; it may not be negative")
    return min(max_entries or _MAX_PAGE, _MAX_PAGE)


def next_token(found: Sequence[model.VolumeId] | Sequence[model.SnapshotId], limit: int) -> str:
    """The token of the page behind the first `limit` entries found; empty where there are no more.

    At most 128 bytes, as every string in CSI.
    """
    return f"{_MARK}{found[limit - 1]}" if len(found) > limit else ""


def after(token: str, kind: type[_Id]) -> _Id | None:
    """The id that a token stands for; None at the beginning.

    Raises:
        errors.InvalidPageTokenError: the token is none of ours.
    """
    if not token:
        return None
    try:
        if token.startswith(_MARK):
            return kind.parse(token.removeprefix(_MARK))
    except errors.InvalidRequestError:
        pass
    raise errors.InvalidPageTokenError(
        "starting_token is not one that this driver gave out", remedy="start the listing again without one"
    )
