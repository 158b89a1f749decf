"""Pages of volumes: the names of all places in the order of their ids, and of these as many read as a page has."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures

from provisioner import model
from provisioner.backends.rbd import ids, places
from provisioner.backends.rbd.client import errors as client_errors

_Listed = tuple[str, places.Spot, str]


def volumes(spots: Sequence[places.Spot], instance: str, *, after: str) -> list[_Listed]:
    """The images that may be volumes of ours, with their ids, behind the id `after`; in the order of ids."""
    return sorted(
        (each for spot in spots for each in _in_place(spot, instance) if each[0] > after), key=lambda each: each[0]
    )


def read(
    listed: Sequence[_Listed],
    look: Callable[[places.Spot, str], model.Volume | None],
    *,
    limit: int,
    readers: futures.Executor,
) -> list[model.Volume]:
    """The first `limit` of these that are volumes; several are looked at a time."""
    page: list[model.Volume] = []
    rest = iter(listed)
    while len(page) < limit and (batch := list(itertools.islice(rest, limit - len(page)))):
        found = readers.map(look, (spot for _, spot, _ in batch), (image for _, _, image in batch))
        page.extend(volume for volume in found if volume is not None)
    return page


def _in_place(spot: places.Spot, instance: str) -> Iterator[_Listed]:
    try:
        entries = spot.images.list()
    except client_errors.NotPermittedError:
        return  # A pool that is not for us.
    for entry in entries:
        if ids.is_image_of(instance, entry.name):
            yield str(ids.RbdVolumeId(spot.id, entry.name)), spot, entry.name
