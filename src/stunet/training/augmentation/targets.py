"""Targets for the loss: a label map, or regions, at each resolution of deep supervision."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import interpolate

Region = int | Sequence[int]
"""The label or labels that make up one region."""


@dataclass(frozen=True)
class TargetTransform:
    """The last of nnU-Net's training transforms, and all of its validation transforms (without a cascade).

    Attributes:
        deep_supervision_scales: for each output of the network, its size along each axis as a fraction of the patch;
            None without deep supervision.
        regions: for a dataset with regions, the labels of each; None for plain labels.
        ignore_label: with regions, the voxels of this label become one more region, the last.
    """

    deep_supervision_scales: Sequence[Sequence[float]] | None
    regions: Sequence[Region] | None = None
    ignore_label: int | None = None

    def __call__(self, labels_B1ZYX: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Targets in the labels' type (with regions (B, R, Z, Y, X), bool); a list with deep supervision.

        Voxels of label -1 (outside the image, or masked) become background.
        """
        target = labels_B1ZYX.masked_fill(labels_B1ZYX == -1, 0)
        if self.regions is not None:
            target = self._regions(target)
        if self.deep_supervision_scales is None:
            return target
        as_float = target.float()  # `interpolate` does not support integers
        return [_shrink(target, as_float, scale) for scale in self.deep_supervision_scales]

    def _regions(self, labels_B1ZYX: torch.Tensor) -> torch.Tensor:
        assert self.regions is not None
        regions = [*self.regions] if self.ignore_label is None else [*self.regions, self.ignore_label]
        return torch.cat([_is_in(labels_B1ZYX, region) for region in regions], dim=1)


def _is_in(labels: torch.Tensor, region: Region) -> torch.Tensor:
    first, *others = [region] if isinstance(region, int) else region
    inside = labels == first
    for label in others:
        inside |= labels == label
    return inside


def _shrink(target: torch.Tensor, as_float: torch.Tensor, scale: Sequence[float]) -> torch.Tensor:
    """Every n-th voxel along each axis."""
    if all(part == 1 for part in scale):
        return target
    size = [round(length * part) for length, part in zip(target.shape[2:], scale, strict=True)]
    return interpolate(as_float, size, mode="nearest-exact").to(target.dtype)
