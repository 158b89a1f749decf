"""Pages of ListVolumes: the token is the last id of a page.

So a listing goes on at the right place when volumes come or go meanwhile, also the one that the token names, and also
after a restart. Callers are told only that a token is opaque.
"""

from provisioner import errors, model

# 1,000 entries are about 300 KB; gRPC's default limit for one message is 4 MB.
_MAX_PAGE = 1000
_MARK = ">"


def limit(max_entries: int) -> int:
    """How many volumes a page has; 0 leaves it to us."""
    return min(max_entries or _MAX_PAGE, _MAX_PAGE)


def token(last: model.VolumeId) -> str:
    """The token of the page behind `last`; at most 128 bytes, as every string in CSI."""
    return f"{_MARK}{last}"


def after(token: str) -> model.VolumeId | None:
    """The id that a token stands for; None at the beginning.

    Raises:
        errors.InvalidPageTokenError: the token is none of ours.
    """
    if not token:
        return None
    try:
        if token.startswith(_MARK):
            return model.VolumeId.parse(token.removeprefix(_MARK))
    except errors.InvalidRequestError:
        pass
    raise errors.InvalidPageTokenError(
        "starting_token is not one that this driver gave out", remedy="start the listing again without one"
    )
