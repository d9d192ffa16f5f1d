"""Transforms that remove detail: blur and low resolution.

The defaults are nnU-Net's. `ChannelTransform` documents the shared attributes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import interpolate, pad

from stunet.training.augmentation.channels import ChannelTransform, Numbers

KERNEL_SIGMAS = 6
"""nnU-Net's blur kernels span about this many standard deviations (3, 5 or 7 voxels in its range)."""


@dataclass(frozen=True)
class GaussianBlur(ChannelTransform):
    """Blurs with a separate width along each axis. Parameters: standard deviations along Z, Y, X, in voxels.

    Attributes:
        deviation: the range of standard deviations, in voxels.
    """

    probability: float = 0.2
    deviation: tuple[float, float] = (0.5, 1.0)
    channel_probability: float = 0.5

    def draw(self, random: np.random.Generator) -> Numbers:
        """Draw a width for each axis."""
        return tuple(random.uniform(*self.deviation) for _ in range(3))

    def apply(self, image_ZYX: torch.Tensor, numbers: Numbers, noise: torch.Generator) -> None:
        """Blur one axis after the other, mirroring at the borders."""
        blurred_ZYX = image_ZYX
        for axis, deviation in enumerate(numbers):
            blurred_ZYX = _blur_axis(blurred_ZYX, blur_kernel(deviation), axis)
        image_ZYX.copy_(blurred_ZYX)


def blur_kernel(deviation: float) -> list[float]:
    """Weights of an odd number of neighbours, centred on the voxel itself. They add up to 1.

    >>> [round(weight, 3) for weight in blur_kernel(0.5)]
    [0.107, 0.787, 0.107]
    """
    length = deviation * KERNEL_SIGMAS + 0.5
    odd = round(length)
    if odd % 2 == 0:
        odd += 1 if length >= odd else -1
    offsets = np.arange(odd) - odd // 2
    weights = np.exp(-0.5 * (offsets / deviation) ** 2)
    return (weights / weights.sum()).tolist()


def _blur_axis(image_ZYX: torch.Tensor, kernel: list[float], axis: int) -> torch.Tensor:
    """Add up shifted, weighted copies. On one channel this is many times faster than a convolution."""
    reach, size = len(kernel) // 2, image_ZYX.shape[axis]
    margins = [0, 0, 0, 0, 0, 0]
    margins[2 * (2 - axis)] = margins[2 * (2 - axis) + 1] = reach  # `pad` counts axes from the last
    padded_ZYX = pad(image_ZYX[None], margins, mode="reflect")[0]
    blurred_ZYX = padded_ZYX.narrow(axis, 0, size) * kernel[0]
    for shift, weight in enumerate(kernel[1:], 1):
        blurred_ZYX.add_(padded_ZYX.narrow(axis, shift, size), alpha=weight)
    return blurred_ZYX


@dataclass(frozen=True)
class LowResolution(ChannelTransform):
    """Downsamples (nearest voxel), then interpolates back. Parameter: the fraction of voxels kept along each axis.

    Attributes:
        scale: the range of fractions.
        kept_axes: the axes (0, 1, 2 = Z, Y, X) that keep their resolution.
    """

    probability: float = 0.25
    scale: tuple[float, float] = (0.5, 1.0)
    kept_axes: tuple[int, ...] = ()
    channel_probability: float = 0.5

    def draw(self, random: np.random.Generator) -> Numbers:
        """A part."""
        return (random.uniform(*self.scale),)

    def apply(self, image_ZYX: torch.Tensor, numbers: Numbers, noise: torch.Generator) -> None:
        """Downsample and upsample."""
        (scale,) = numbers
        size = image_ZYX.shape
        coarse = [n if axis in self.kept_axes else round(n * scale) for axis, n in enumerate(size)]
        sampled = interpolate(image_ZYX[None, None], coarse, mode="nearest-exact")
        image_ZYX.copy_(interpolate(sampled, size, mode="trilinear")[0, 0])
