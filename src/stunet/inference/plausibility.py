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

LEAST_SPAN_HU = 100.0
"""In every CT of a body, values span more than this: between fat and muscle alone lie 150 HU."""

CLIPPED_SHARE = 0.01
"""A CT without air whose lowest value is that of this share of its voxels was clipped there."""

LOOKED_AT = 100_000
"""The number of voxels to check, evenly spaced: enough to find air, which fills much of a CT."""

MUCH_LARGER = 10.0
"""A scan with this many times the volume of the training scans gets a warning."""


def apparent_kind(scan: Volume) -> str | None:
    """A sentence on what kind of scan the values suggest; None if they are inconclusive."""
    lowest = float(_some_of(scan.array[0]).min())
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
        values = _some_of(channel_ZYX)
        lowest = float(values.min())
        if name.upper() == "CT" and (reason := _why_not_in_hu(values)):
            yield f"{scan.source}: {reason}, but model {model.card.name!r} is for CT. The labels may be nonsense."
        if name.upper() in ("MR", "MRI", "T1", "T2", "FLAIR", "PET") and lowest <= AIR_HU:
            yield (
                f"{scan.source}: has values down to {lowest:g}, like a CT, but model {model.card.name!r} is for "
                f"{name}. The labels may be nonsense."
            )


def _why_not_in_hu(values: np.ndarray) -> str | None:
    """What shows that these are no longer a CT's Hounsfield units; None if they may be."""
    lowest, highest = float(values.min()), float(values.max())
    if lowest >= 0:
        return "has no negative values, so it is not a CT in Hounsfield units"
    if highest - lowest < LEAST_SPAN_HU:
        return f"has values from {lowest:.3g} to {highest:.3g}, so it was normalised and is not in Hounsfield units"
    if lowest > AIR_HU and np.mean(values == lowest) >= CLIPPED_SHARE:
        return f"was clipped at {lowest:g}, so it has no air as a CT in Hounsfield units has"
    return None


def _some_of(channel_ZYX: np.ndarray) -> np.ndarray:
    """Values of the scan, evenly spaced; without NaN, which is refused later."""
    values = channel_ZYX.reshape(-1)
    some = values[:: max(1, values.size // LOOKED_AT)]
    known = some[~np.isnan(some)]
    return known if known.size else np.zeros(1)


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
