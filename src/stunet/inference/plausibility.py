"""Whether a scan can be what a model was trained on; said before the work starts, for nonsense looks like a result."""

from collections.abc import Iterator

import numpy as np

from stunet.imaging.volume import Volume
from stunet.weights.catalogue import CATALOGUE
from stunet.weights.model import Model

AIR_HU = -500.0
"""Air is -1000 HU and every CT shows some; neither MR nor PET has values so low."""

LOOKED_AT = 100_000
"""Voxels that are looked at, evenly spread: enough for the lowest of air, which fills much of a CT."""

MUCH_LARGER = 10.0
"""A scan of so many times the volume that the model was trained on is doubted."""


def doubts(scan: Volume, model: Model) -> tuple[str, ...]:
    """What speaks against this model for this scan, as sentences; empty where nothing plainly does."""
    return (*_of_modality(scan, model), *_of_extent(scan, model))


def _of_modality(scan: Volume, model: Model) -> Iterator[str]:
    for channel_ZYX, name in zip(scan.array, model.card.channels, strict=False):
        lowest = _lowest(channel_ZYX)
        if name.upper() == "CT" and lowest >= 0:
            yield (
                f"{scan.source}: holds no negative values, so it is not a CT in Hounsfield units, and model "
                f"{model.card.name!r} is for CT. The labels may be nonsense."
            )
        if name.upper() in ("MR", "MRI", "T1", "T2", "FLAIR", "PET") and lowest <= AIR_HU:
            yield (
                f"{scan.source}: holds values down to {lowest:g}, as a CT does, and model {model.card.name!r} is for "
                f"{name}. The labels may be nonsense."
            )


def _lowest(channel_ZYX: np.ndarray) -> float:
    values = channel_ZYX.reshape(-1)
    return float(np.nanmin(values[:: max(1, values.size // LOOKED_AT)]))


def _of_extent(scan: Volume, model: Model) -> Iterator[str]:
    """Only models of the catalogue say how large their images were."""
    entry = CATALOGUE.get(model.source)
    if entry is None or entry.extent_mm is None:
        return
    volume_mm3 = float(np.prod(scan.shape)) * float(np.prod(scan.spacing))
    if volume_mm3 > MUCH_LARGER * float(np.prod(entry.extent_mm)):
        size = " x ".join(f"{n * mm:.0f}" for n, mm in zip(reversed(scan.shape), reversed(scan.spacing), strict=True))
        known = " x ".join(f"{mm:.0f}" for mm in reversed(entry.extent_mm))
        yield (
            f"{scan.source}: covers {size} mm, and model {model.card.name!r} knows crops of {known} mm ({entry.task}). "
            "Crop the scan first, or the labels may be nonsense."
        )
