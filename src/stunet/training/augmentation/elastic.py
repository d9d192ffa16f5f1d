"""Elastic deformation: a smooth random displacement of each voxel.

nnU-Net leaves it out. The paper names it without parameters (section 4, implementation details). These parameters are
the defaults of nnU-Net 1.7, which the paper used.
"""

from dataclasses import dataclass

import numpy as np
import torch

KERNEL_DEVIATIONS = 4
"""The smoothing kernel is cut off after this many standard deviations, as in scipy."""


@dataclass(frozen=True)
class ElasticDraw:
    """The deformation drawn for one sample.

    Attributes:
        deviation: standard deviation of the smoothing kernel, in voxels.
        strength: factor of the smoothed noise.
    """

    deviation: float
    strength: float


@dataclass(frozen=True)
class ElasticDeformation:
    """Displaces each voxel by smoothed uniform noise (-1..1 along each axis) times a strength, in voxels.

    Attributes:
        probability: that a sample is deformed.
        deviation: the range of the smoothing kernel's standard deviation, in voxels.
        strength_3d: the range of strengths for volumes (900 moves a voxel by about 2 along each axis).
        strength_2d: the range for slices that are deformed in-plane.
    """

    probability: float = 0.2
    deviation: tuple[float, float] = (9.0, 13.0)
    strength_3d: tuple[float, float] = (0.0, 900.0)
    strength_2d: tuple[float, float] = (0.0, 200.0)

    def draw(self, random: np.random.Generator, axes: int) -> ElasticDraw | None:
        """Draw the deformation of a sample with 2 or 3 axes; None if it is not deformed."""
        if random.random() >= self.probability:
            return None
        strengths = self.strength_3d if axes == 3 else self.strength_2d
        return ElasticDraw(random.uniform(*self.deviation), random.uniform(*strengths))


def displacement(draw: ElasticDraw, size: tuple[int, ...], noise: torch.Generator) -> torch.Tensor:
    """The displacement of each voxel of `size` along each axis, in voxels: (axes, ...), float32."""
    uniform = torch.rand((len(size), *size), generator=noise, device=noise.device)
    return smooth(uniform.mul_(2).sub_(1), draw.deviation).mul_(draw.strength)


def smooth(field: torch.Tensor, deviation: float) -> torch.Tensor:
    """Gaussian filter over all axes but the first, zero-padded. It is separable and runs as matrix products."""
    for axis in range(1, field.ndim):
        matrix = _smoothing_matrix(field.shape[axis], deviation, field.device)
        field = (field.movedim(axis, -1) @ matrix).movedim(-1, axis)
    return field.contiguous()


def _smoothing_matrix(size: int, deviation: float, device: torch.device) -> torch.Tensor:
    """(size, size), symmetric: the kernel weight of each neighbour."""
    reach = int(KERNEL_DEVIATIONS * deviation + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    position = torch.arange(size, device=device)
    distance = (position[:, None] - position).abs()
    matrix = torch.exp(-0.5 * (distance / deviation) ** 2) / float(weights.sum())
    return matrix.masked_fill_(distance > reach, 0)
