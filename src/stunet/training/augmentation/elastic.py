"""Elastic deformation: a smooth random displacement of each voxel.

nnU-Net leaves it off; the paper names it (section 4, implementation details) without numbers. These are the ones that
nnU-Net 1.7, which the paper used, keeps for it.
"""

from dataclasses import dataclass

import numpy as np
import torch

KERNEL_DEVIATIONS = 4
"""The kernel that smooths the noise ends after so many standard deviations, as scipy's does."""


@dataclass(frozen=True)
class ElasticDraw:
    """How one sample is deformed.

    Attributes:
        deviation: standard deviation of the smoothing kernel, in voxels.
        strength: factor of the smoothed noise.
    """

    deviation: float
    strength: float


@dataclass(frozen=True)
class ElasticDeformation:
    """Uniform noise in -1..1 along each axis, smoothed, times a strength, is the displacement in voxels.

    Attributes:
        probability: that a sample is deformed.
        deviation: the range of the smoothing kernel's standard deviation, in voxels.
        strength_3d: the range of strengths in a volume (900 moves a voxel by about 2 along each axis).
        strength_2d: the range where slices are deformed in their plane.
    """

    probability: float = 0.2
    deviation: tuple[float, float] = (9.0, 13.0)
    strength_3d: tuple[float, float] = (0.0, 900.0)
    strength_2d: tuple[float, float] = (0.0, 200.0)

    def draw(self, random: np.random.Generator, axes: int) -> ElasticDraw | None:
        """How a sample of so many axes (2 or 3) is deformed; None where it is not."""
        if random.random() >= self.probability:
            return None
        strengths = self.strength_3d if axes == 3 else self.strength_2d
        return ElasticDraw(random.uniform(*self.deviation), random.uniform(*strengths))


def displacement(draw: ElasticDraw, size: tuple[int, ...], noise: torch.Generator) -> torch.Tensor:
    """A displacement in voxels for each voxel of `size`, one axis after the other: (axes, ...), float32."""
    uniform = torch.rand((len(size), *size), generator=noise, device=noise.device)
    return smooth(uniform.mul_(2).sub_(1), draw.deviation).mul_(draw.strength)


def smooth(field: torch.Tensor, deviation: float) -> torch.Tensor:
    """A Gaussian filter over all axes but the first, with zeros outside; separable, so matrix products do it."""
    for axis in range(1, field.ndim):
        matrix = _smoothing_matrix(field.shape[axis], deviation, field.device)
        field = (field.movedim(axis, -1) @ matrix).movedim(-1, axis)
    return field.contiguous()


def _smoothing_matrix(size: int, deviation: float, device: torch.device) -> torch.Tensor:
    """(size, size), symmetric: the weight of each neighbour's noise."""
    reach = int(KERNEL_DEVIATIONS * deviation + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    position = torch.arange(size, device=device)
    distance = (position[:, None] - position).abs()
    matrix = torch.exp(-0.5 * (distance / deviation) ** 2) / float(weights.sum())
    return matrix.masked_fill_(distance > reach, 0)
