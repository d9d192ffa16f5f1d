"""Rotation, scaling and elastic deformation in one resampling, or a plain centre crop."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import grid_sample

from stunet.training.augmentation.elastic import ElasticDeformation, ElasticDraw, displacement
from stunet.training.augmentation.resample_labels import resample_labels

OUTSIDE = -1
"""The label outside the crop. The image is 0 there."""


@dataclass(frozen=True)
class SpatialDraw:
    """The resampling drawn for one sample.

    Attributes:
        angles: about each axis, in radians (one angle for in-plane rotation of slices); empty: no rotation.
        scale: factor on the voxel step, so values above 1 shrink objects; None: no scaling.
        elastic: the deformation, applied before rotation and scaling.
    """

    angles: tuple[float, ...]
    scale: float | None
    elastic: ElasticDraw | None

    @property
    def is_crop(self) -> bool:
        """Whether nothing is resampled."""
        return not self.angles and self.scale is None and self.elastic is None


@dataclass(frozen=True)
class SpatialTransform:
    """Cuts a patch from the centre of a larger crop, rotated, scaled or deformed. The defaults are nnU-Net's.

    Attributes:
        patch_size: in voxels, two or three axes.
        rotation: the range of angles in radians, drawn for each axis.
        rotation_probability: that a sample is rotated.
        scaling: the range of scales; all axes share one.
        scaling_probability: that a sample is scaled.
        elastic: elastic deformation; nnU-Net has none.
    """

    patch_size: tuple[int, ...]
    rotation: tuple[float, float]
    rotation_probability: float = 0.2
    scaling: tuple[float, float] = (0.7, 1.4)
    scaling_probability: float = 0.2
    elastic: ElasticDeformation | None = None

    def draw(self, random: np.random.Generator) -> SpatialDraw:
        """Draw rotation, scaling and deformation independently."""
        axes = len(self.patch_size)
        angles: tuple[float, ...] = ()
        scale = None
        if random.random() < self.rotation_probability:
            angles = tuple(random.uniform(*self.rotation) for _ in range(3 if axes == 3 else 1))
        if random.random() < self.scaling_probability:
            scale = random.uniform(*self.scaling)
        return SpatialDraw(angles, scale, self.elastic.draw(random, axes) if self.elastic else None)

    def apply(
        self, image: torch.Tensor, labels: torch.Tensor, draw: SpatialDraw, noise: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cut the patch from an image (C, ...) and its labels (C, ...), both at least as large along each axis.

        A plain crop is a view; otherwise both are new tensors. The image is interpolated linearly.
        """
        if draw.is_crop:
            return self._crop(image), self._crop(labels)
        grid = self.grid(draw, tuple(image.shape[1:]), noise)
        patch = grid_sample(image[None], grid[None], mode="bilinear", padding_mode="zeros", align_corners=False)[0]
        return patch, resample_labels(labels, grid, OUTSIDE)

    def grid(self, draw: SpatialDraw, size: tuple[int, ...], noise: torch.Generator) -> torch.Tensor:
        """Position of each patch voxel in a crop of `size`: (..., axes), in `grid_sample`'s units, last axis first.

        A deformed patch is shifted so that its mean position is the crop's centre.
        """
        axes = len(size)
        device = noise.device
        # positions relative to the centre, one tensor per axis; they add up to the grid by broadcasting
        positions = [
            torch.linspace((1 - n) / 2, (n - 1) / 2, n, device=device).view(
                *(-1 if k == axis else 1 for k in range(axes))
            )
            for axis, n in enumerate(self.patch_size)
        ]
        if draw.elastic:
            moved = displacement(draw.elastic, self.patch_size, noise)
            positions = [position + offset for position, offset in zip(positions, moved, strict=True)]
        matrix = affine(draw, axes)
        grid = torch.empty((*self.patch_size, axes), device=device)
        for axis, length in enumerate(size):
            component = grid[..., -1 - axis]
            component.zero_()
            for position, factor in zip(positions, matrix[axis], strict=True):
                component.add_(position, alpha=float(factor))
            if draw.elastic:
                component -= component.mean()
            component /= length / 2
        return grid

    def _crop(self, volume: torch.Tensor) -> torch.Tensor:
        for axis, length in enumerate(self.patch_size, 1):
            volume = volume.narrow(axis, volume.shape[axis] // 2 - length // 2, length)
        return volume


def affine(draw: SpatialDraw, axes: int) -> np.ndarray:
    """(axes, axes), float64: scaling, then rotations about the first, second and third axis."""
    matrix = np.eye(axes) * (1.0 if draw.scale is None else draw.scale)
    if not draw.angles:
        return matrix
    if axes == 2:
        return _turn(2, 0, 1, draw.angles[0]) @ matrix
    first, second, third = draw.angles
    return _turn(3, 0, 1, third) @ _turn(3, 2, 0, second) @ _turn(3, 1, 2, first) @ matrix


def _turn(axes: int, one: int, other: int, angle: float) -> np.ndarray:
    """Rotation of axis `one` towards axis `other`."""
    matrix = np.eye(axes)
    matrix[one, one] = matrix[other, other] = np.cos(angle)
    matrix[other, one], matrix[one, other] = np.sin(angle), -np.sin(angle)
    return matrix
