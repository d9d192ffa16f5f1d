"""Check before prediction whether a scan resembles a model's training scans, since nonsense can look like a result."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from stunet.imaging.volume import Volume
from stunet.weights.catalogue import CATALOGUE

if TYPE_CHECKING:
    from stunet.weights.model import Model

AIR_HU = -500.0
"""Every CT shows air, at -1000 HU; neither MR nor PET has values this low."""

LOOKED_AT = 100_000
"""The number of voxels to check, evenly spaced: enough to find air, which fills much of a CT."""

MUCH_LARGER = 10.0
"""A scan with this many times the volume of the training scans gets a warning."""


def apparent_kind(scan: Volume) -> str | None:
    """A sentence on what kind of scan the values suggest; None if they are inconclusive."""
    lowest = _lowest(scan.array[0])
    if lowest <= AIR_HU:
        return f"{scan.source} has values down to {lowest:g}, like a CT."
    if lowest >= 0:
        return f"{scan.source} has no negative values, so it is MR or PET, or a CT that is not in Hounsfield units."
    return None


def doubts(scan: Volume, model: "Model") -> tuple[str, ...]:
    """Sentences on why the model may not suit the scan; empty if nothing is found."""
    return (*_of_modality(scan, model), *_of_extent(scan, model))


def _of_modality(scan: Volume, model: "Model") -> Iterator[str]:
    for channel_ZYX, name in zip(scan.array, model.card.channels, strict=False):
        lowest = _lowest(channel_ZYX)
        if name.upper() == "CT" and lowest >= 0:
            yield (
                f"{scan.source}: has no negative values, so it is not a CT in Hounsfield units, but model "
                f"{model.card.name!r} is for CT. The labels may be nonsense."
            )
        if name.upper() in ("MR", "MRI", "T1", "T2", "FLAIR", "PET") and lowest <= AIR_HU:
            yield (
                f"{scan.source}: has values down to {lowest:g}, like a CT, but model {model.card.name!r} is for "
                f"{name}. The labels may be nonsense."
            )


def _lowest(channel_ZYX: np.ndarray) -> float:
    values = channel_ZYX.reshape(-1)
    return float(np.nanmin(values[:: max(1, values.size // LOOKED_AT)]))


def _of_extent(scan: Volume, model: "Model") -> Iterator[str]:
    """The extent of training images is only known for models of the catalogue."""
    entry = CATALOGUE.get(model.source)
    if entry is None or entry.extent_mm is None:
        return
    volume_mm3 = float(np.prod(scan.shape)) * float(np.prod(scan.spacing))
    if volume_mm3 > MUCH_LARGER * float(np.prod(entry.extent_mm)):
        size = " x ".join(f"{n * mm:.0f}" for n, mm in zip(reversed(scan.shape), reversed(scan.spacing), strict=True))
        known = " x ".join(f"{mm:.0f}" for mm in reversed(entry.extent_mm))
        yield (
            f"{scan.source}: covers {size} mm, but model {model.card.name!r} was trained on crops of {known} mm "
            f"({entry.task}). Crop the scan first, or the labels may be nonsense."
        )
