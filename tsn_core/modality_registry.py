"""Which modalities there are: the built-in ones, and those that installed packages register.

| modality | a unit is | frames | stored image | channels of a unit |
|---|---|---|---|---|
| rgb | the frame | 1 | (H, W, 3) | 3 |
| flow | displacement from frame t to t+1 | 2 | (2H, W): x on top of y | 2 |
| warpedflow | the same, the camera's motion taken out | 2 | (2H, W) | 2 |
| rgbdiff | frame t+1 minus frame t | 2 | (H, W, 3) | 3 |

A package registers a ``Modality`` as an entry point of the group ``tsn_shards.modalities``, under
the modality's name; ``docs/modalities.md`` shows how.
"""

from __future__ import annotations

import functools
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from tsn_core.errors import UnknownModalityError
from tsn_core.modality_kind import IMAGENET_MEAN, IMAGENET_STD, MEAN_STD, Modality, Parameters
from tsn_core.quantization import flow_scale_zero

ENTRY_POINTS = "tsn_shards.modalities"


def _flow_scale_zero(parameters: Parameters) -> tuple[float, float]:
    return flow_scale_zero(parameters["bound"])


def _difference_scale_zero(parameters: Parameters) -> tuple[float, float]:
    return 1.0, 128.0


_FLOW: dict[str, Any] = {
    "frames_per_unit": 2,
    "unit_channels": 2,
    "snippet_length": 5,
    # Normalisation as in the TSN authors' PyTorch code: ImageNet's for RGB, zero motion to zero
    # and the mean ImageNet deviation for flow, twice that for differences.
    "mean": (127.5,) * 2,
    "std": (MEAN_STD,) * 2,
    "stacked": True,
    "mirrored_channels": (0,),
    "displacements": ((0, 1), (1, 0)),  # x along the width, y along the height
    "has_algorithm": True,
    "scale_zero": _flow_scale_zero,
}
# Weights of fusion: Wang et al., TSN (ECCV 2016), section 4.2: 1 for RGB, 1.5 for flow. What warped
# flow adds beside flow is little, and so is its weight there.
_TABLE = {
    modality.name: modality
    for modality in (
        Modality("rgb", 1, 3, 1, IMAGENET_MEAN, IMAGENET_STD, displacements=()),
        Modality("flow", **_FLOW, like="flow", fusion_weight=1.5),
        Modality("warpedflow", **_FLOW, like="warpedflow", fusion_weight=0.5),
        Modality(
            "rgbdiff",
            2,
            3,
            5,
            (128.0,) * 3,
            (2 * MEAN_STD,) * 3,
            displacements=(),
            like="rgbdiff",
            scale_zero=_difference_scale_zero,
        ),
    )
}
MODALITIES = tuple(_TABLE)  # that are built in


def modality_names() -> tuple[str, ...]:
    """Return the names of all modalities, built-in and registered; nothing of theirs is loaded."""
    return (*MODALITIES, *sorted(set(_registered()) - set(MODALITIES)))


def get_modality(name: str) -> Modality:
    """Return the modality of that name.

    Raises:
        UnknownModalityError: There is none, or the package that registers it is broken.
    """
    if isinstance(name, str):
        if name in _TABLE:
            return _TABLE[name]
        if name in _registered():
            return _load(name)
    raise UnknownModalityError(
        f"unknown modality {name!r}; choose from {', '.join(modality_names())}, or install the "
        "package that brings it"
    )


@functools.cache
def _registered() -> dict[str, tuple[EntryPoint, ...]]:
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=ENTRY_POINTS):
        if point not in found.get(point.name, ()):
            found[point.name] = (*found.get(point.name, ()), point)
    return found


@functools.cache
def _load(name: str) -> Modality:
    points = _registered()[name]
    if len({point.value for point in points}) > 1:
        raise UnknownModalityError(
            f"modality {name!r}: registered by {' and '.join(map(_whose, points))}; uninstall one"
        )
    point = points[0]
    try:
        modality = point.load()
    except Exception as error:  # somebody else's code
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnknownModalityError(
            f"modality {name!r}: {_whose(point)} cannot be loaded: {reason}; mend or uninstall it"
        ) from error
    if not isinstance(modality, Modality):
        raise UnknownModalityError(
            f"modality {name!r}: a tsn_core.modality.Modality expected in {_whose(point)}, got "
            f"{type(modality).__name__}"
        )
    if modality.name != name:
        raise UnknownModalityError(
            f"modality {name!r}: {_whose(point)} calls itself {modality.name!r}; register it "
            "under that name"
        )
    if modality.like not in _TABLE:
        raise UnknownModalityError(
            f"modality {name!r}: {_whose(point)} says like={modality.like!r}; choose from "
            f"{', '.join(MODALITIES)}"
        )
    return modality


def _whose(point: EntryPoint) -> str:
    return point.value if point.dist is None else f"{point.value} of {point.dist.name}"
