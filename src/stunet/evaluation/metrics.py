"""The metrics by name, and the scores of every structure of a case. A new metric is one more line in `METRICS`."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from types import MappingProxyType

import numpy as np
from scipy import ndimage

from stunet.evaluation.dice import dice
from stunet.evaluation.surface import (
    SurfaceDistances,
    hausdorff_distance,
    normalised_surface_distance,
    surface_distances,
)

Box = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class StructurePair:
    """Prediction and reference of one structure, cropped to the box around both.

    Attributes:
        prediction: booleans (Z, Y, X).
        reference: booleans (Z, Y, X).
        spacing: mm (Z, Y, X).
        tolerance_mm: tolerance of the normalised surface distance.
        diagonal_mm: diagonal of the whole scan, the largest possible distance.
    """

    prediction: np.ndarray
    reference: np.ndarray
    spacing: tuple[float, float, float]
    tolerance_mm: float
    diagonal_mm: float

    @cached_property
    def surfaces(self) -> SurfaceDistances:
        """The surface distances, computed once for all metrics that need them."""
        return surface_distances(self.prediction, self.reference, self.spacing)


@dataclass(frozen=True)
class Metric:
    """A score of a structure; nan if it is absent from prediction and reference.

    Attributes:
        title: heading in tables.
        measure: computes it for a structure that is present in at least one of the two.
        unit: "" or "mm".
        decimals: decimals in tables.
        is_higher_better: whether a perfect prediction has the highest value.
        has_tolerance: whether it depends on the structure's tolerance.
        if_missed: description of the score if the structure is absent from one of the two.
    """

    title: str
    measure: Callable[[StructurePair], float]
    unit: str = ""
    decimals: int = 4
    is_higher_better: bool = True
    has_tolerance: bool = False
    if_missed: str = "0"

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


METRICS: dict[str, Metric] = {
    "dsc": Metric("DSC", lambda pair: dice(pair.prediction, pair.reference)),
    "nsd": Metric(
        "NSD", lambda pair: normalised_surface_distance(pair.surfaces, pair.tolerance_mm), has_tolerance=True
    ),
    "hd95": Metric(
        "HD95",
        lambda pair: min(hausdorff_distance(pair.surfaces, 95), pair.diagonal_mm),
        unit="mm",
        decimals=2,
        is_higher_better=False,
        if_missed="the diagonal of the scan, the largest distance there can be",
    ),
}
"""Name on the command line -> metric."""


def score_structures(
    prediction_ZYX: np.ndarray,
    reference_ZYX: np.ndarray,
    spacing: tuple[float, float, float],
    tolerances_mm: Mapping[int, float],
    metrics: Sequence[str],
    members: Mapping[int, tuple[int, ...]] = MappingProxyType({}),
) -> dict[str, dict[int, float]]:
    """Compute every metric of every structure of a case.

    Args:
        prediction_ZYX: labels (Z, Y, X) of any unsigned type.
        reference_ZYX: labels (Z, Y, X) of any unsigned type.
        spacing: mm (Z, Y, X).
        tolerances_mm: label to tolerance; these labels are scored, in this order.
        metrics: names in `METRICS`.
        members: label to the values that belong to its structure, if there are others than the label.

    Returns:
        Metric to label to value; nan if the label is absent from both.

    Raises:
        ValueError: the shapes differ.
    """
    if prediction_ZYX.shape != reference_ZYX.shape:
        raise ValueError(f"prediction has shape {prediction_ZYX.shape}, reference {reference_ZYX.shape}")
    values_of = {label: members.get(label, (label,)) for label in tolerances_mm}
    diagonal_mm = math.hypot(*(size * mm for size, mm in zip(reference_ZYX.shape, spacing, strict=True)))
    scores: dict[str, dict[int, float]] = {name: dict.fromkeys(values_of, math.nan) for name in metrics}
    for label, box in _boxes_of(values_of, prediction_ZYX, reference_ZYX).items():
        values = values_of[label]
        predicted, true = (np.isin(labels_ZYX[box], values) for labels_ZYX in (prediction_ZYX, reference_ZYX))
        pair = StructurePair(predicted, true, spacing, tolerances_mm[label], diagonal_mm)
        for name in metrics:
            scores[name][label] = METRICS[name].measure(pair)
    return scores


def _boxes_of(
    values_of: Mapping[int, Sequence[int]], prediction_ZYX: np.ndarray, reference_ZYX: np.ndarray
) -> dict[int, Box]:
    """The smallest box around each structure in both arrays together."""
    highest = max(chain.from_iterable(values_of.values()), default=0)
    boxes = _boxes(prediction_ZYX, reference_ZYX, highest)
    found = {
        label: _around([boxes[value] for value in values if value in boxes]) for label, values in values_of.items()
    }
    return {label: box for label, box in found.items() if box is not None}


def _boxes(prediction_ZYX: np.ndarray, reference_ZYX: np.ndarray, highest: int) -> dict[int, Box]:
    """The smallest box around each label in both arrays together."""
    found = (ndimage.find_objects(labels_ZYX, highest) for labels_ZYX in (prediction_ZYX, reference_ZYX))
    boxes = {}
    for label, pair in enumerate(zip(*found, strict=True), start=1):
        box = _around([box for box in pair if box is not None])
        if box is not None:
            boxes[label] = box
    return boxes


def _around(boxes: Sequence[Box]) -> Box | None:
    """The smallest box around some boxes; None if there are none."""
    if not boxes:
        return None
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides)) for sides in zip(*boxes, strict=True)
    )
