"""Linear (or nearest) interpolation between planes that arrive one after the other, and within a plane."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from stunet.imaging.resample import linear_taps, nearest_taps

Sample = TypeVar("Sample")


@dataclass(frozen=True, eq=False)
class Taps:
    """Interpolation along one axis: output i = (1 - weight[i]) * input[lower[i]] + weight[i] * input[upper[i]].

    Attributes:
        lower, upper: int64 (n_out,); equal where the weight is 0, otherwise neighbours.
        weight: float32 (n_out,), weight of `upper`; 0 or more and below 1.
    """

    lower: torch.Tensor
    upper: torch.Tensor
    weight: torch.Tensor

    def to(self, device: torch.device) -> "Taps":
        """Move the tensors to a device."""
        return Taps(self.lower.to(device), self.upper.to(device), self.weight.to(device))


def axis_taps(n_in: int, n_out: int, order: int) -> Taps:
    """Interpolation of order 0 (nearest) or 1 (linear) from n_in to n_out samples over the same extent.

    Raises:
        ValueError: the order is not 0 or 1.
    """
    if order == 0:
        nearest = torch.from_numpy(nearest_taps(n_in, n_out))
        return Taps(nearest, nearest, torch.zeros(n_out))
    if order == 1:
        lower, upper, weight = linear_taps(n_in, n_out)
        return Taps(*(torch.from_numpy(array) for array in (lower, np.where(weight == 0, lower, upper), weight)))
    raise ValueError(f"interpolation must be of order 0 or 1, not {order}")


def taps_between(samples: Iterable[Sample], taps: Taps) -> Iterator[tuple[Sample, Sample, float]]:
    """Yield for each output its two neighbouring samples and the weight of the second.

    Where the weight is 0, both samples are the same. The taps must not decrease. Two samples are kept at a time.

    Raises:
        ValueError: there are fewer samples than `taps` needs.
    """
    arrived = enumerate(samples)
    number, previous, current = -1, None, None
    for lower, upper, weight in zip(taps.lower.tolist(), taps.upper.tolist(), taps.weight.tolist(), strict=True):
        while number < upper:
            previous, (number, current) = current, next(arrived, (upper, None))
        first = current if lower == number else previous
        if first is None or current is None:
            raise ValueError("there are fewer planes than the network's grid has")
        yield first, current if weight else first, weight


def interpolated(
    features_YXF: torch.Tensor, along_y: Taps, along_x: Taps, rows: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    """Interpolate features (M, F) at output voxels, given by their rows and columns, int64 (M,) each.

    `along_y` and `along_x` map the outputs' rows and columns to the plane of features.
    """
    y0, y1, y = along_y.lower[rows], along_y.upper[rows], along_y.weight[rows, None]
    x0, x1, x = along_x.lower[columns], along_x.upper[columns], along_x.weight[columns, None]
    front = features_YXF[y0, x0].lerp_(features_YXF[y0, x1], x)
    back = features_YXF[y1, x0].lerp_(features_YXF[y1, x1], x)
    return front.lerp_(back, y)
