"""An image's layout, as the seam has it and as librbd takes and gives it."""

from collections.abc import Callable
from typing import Any

from provisioner.backends.rbd.client import api, binding, errors

# Names as the command `rbd` has them, and the part of librbd's constant that says the same. What Ceph sets of itself,
# while an image has clones or is moved, is left out.
_FEATURES = {
    "layering": "LAYERING",
    "striping": "STRIPINGV2",
    "exclusive-lock": "EXCLUSIVE_LOCK",
    "object-map": "OBJECT_MAP",
    "fast-diff": "FAST_DIFF",
    "deep-flatten": "DEEP_FLATTEN",
    "journaling": "JOURNALING",
    "data-pool": "DATA_POOL",
}


def options(layout: api.Layout) -> dict[str, Any]:
    """The arguments that librbd takes for it; what is not given, it decides itself.

    Raises:
        errors.InvalidImageError: there is no such feature.
    """
    return {
        "features": _bits(layout.features),
        "order": layout.order or None,
        "stripe_unit": layout.stripe_unit or None,
        "stripe_count": layout.stripe_count or None,
        "data_pool": layout.data_pool or None,
    }


def read(image: Any, pool_name: Callable[[int], str]) -> api.Layout:
    """The layout of an open image."""
    features = _names(image.features())
    return api.Layout(
        features=features,
        data_pool=pool_name(image.data_pool_id()) if "data-pool" in features else "",
        order=image.stat()["order"],
        stripe_unit=image.stripe_unit(),
        stripe_count=image.stripe_count(),
    )


def _bits(features: frozenset[str]) -> int:
    unknown = sorted(features - _FEATURES.keys())
    if unknown:
        raise errors.InvalidImageError(
            f"there is no image feature {unknown[0]!a}", remedy=f"the features are {', '.join(_FEATURES)}"
        )
    return sum(_bit(name) for name in features)


def _names(bits: int) -> frozenset[str]:
    return frozenset(name for name in _FEATURES if bits & _bit(name))


def _bit(name: str) -> int:
    return int(getattr(binding.load().rbd, f"RBD_FEATURE_{_FEATURES[name]}"))
