"""Normalise intensities plane by plane. Statistics of the whole channel are computed first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from stunet.imaging.resample import PlaneReader, blocks
from stunet.plans.preprocessing import ChannelNormalization, Convention

EPSILON = 1e-8
"""Minimum divisor, as in nnU-Net: a constant image becomes zeros."""

_DIVISORS: dict[Convention, Callable[[float], float]] = {
    "nnunet_v1": lambda std: std + EPSILON,
    "nnunet_v2": lambda std: max(std, EPSILON),
}
"""How each version of nnU-Net avoids division by zero in the z-score."""


@dataclass(frozen=True)
class IntensityStatistics:
    """Mean, standard deviation (of the population) and range of voxel values."""

    mean: float = 0.0
    std: float = 1.0
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class IntensityMap:
    """Clip to lower..upper, then (value - shift) / scale."""

    lower: float = float("-inf")
    upper: float = float("inf")
    shift: float = 0.0
    scale: float = 1.0

    def __call__(self, block: torch.Tensor) -> torch.Tensor:
        """Apply the mapping to a float32 block in place, and return it."""
        return block.clamp_(self.lower, self.upper).sub_(self.shift).div_(self.scale)


def intensity_map(
    read: PlaneReader,
    shape: Sequence[int],
    channel: ChannelNormalization,
    convention: Convention,
    mask: PlaneReader | None = None,
) -> IntensityMap:
    """The intensity mapping of a scheme for one channel. Schemes that depend on the image read it once.

    Args:
        read: The channel's planes.
        shape: (Z, Y, X) of the channel.
        channel: The scheme.
        convention: The nnU-Net version whose guard against division by zero is used.
        mask: Planes of 0 and 1, or False and True: voxels outside do not count. None: all are inside.
    """
    if channel.scheme == "ct":
        return IntensityMap(channel.percentile_00_5, channel.percentile_99_5, channel.mean, max(channel.std, EPSILON))
    if channel.scheme == "zscore":
        found = measure_intensities(read, shape, mask)
        return IntensityMap(shift=found.mean, scale=_DIVISORS[convention](found.std))
    if channel.scheme == "rescale_to_0_1":
        found = measure_intensities(read, shape, mask)
        return IntensityMap(shift=found.low, scale=max(found.high - found.low, EPSILON))
    return IntensityMap(scale=255.0 if channel.scheme == "rgb_to_0_1" else 1.0)


def normalized(read: PlaneReader, intensity: IntensityMap, mask: PlaneReader | None = None) -> PlaneReader:
    """Normalise one channel as it is read, in any order. Voxels outside the mask, if given, become zero."""

    def planes(start: int, stop: int) -> torch.Tensor:
        """The normalised planes start..stop - 1."""
        block_ZYX = intensity(read(start, stop))
        return block_ZYX if mask is None else block_ZYX.mul_(mask(start, stop))

    return planes


def measure_intensities(
    read: PlaneReader, shape: Sequence[int], mask: PlaneReader | None = None
) -> IntensityStatistics:
    """Statistics of a channel (Z, Y, X) in the mask, in one pass and in float64; defaults if the mask is empty."""
    count, total, squares, origin = 0, 0.0, 0.0, None
    low, high = float("inf"), float("-inf")
    for start, stop in blocks(shape):
        values = read(start, stop)
        if mask is not None:
            values = values[mask(start, stop) > 0]
        if not values.numel():
            continue
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        # the first value is subtracted from all others, so that squares of large numbers do not cancel
        origin = float(values.flatten()[0]) if origin is None else origin
        shifted = values.double().sub_(origin)
        count, total = count + shifted.numel(), total + float(shifted.sum())
        squares += float(shifted.square_().sum())
    if origin is None:
        return IntensityStatistics()
    mean = total / count
    return IntensityStatistics(origin + mean, max(squares / count - mean * mean, 0.0) ** 0.5, low, high)
