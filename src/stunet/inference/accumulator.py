"""Average overlapping windows, in a slab that rolls along the first axis.

The mean is taken over features, not logits. The head that turns features into logits, a 1x1x1 convolution, is affine,
so the order does not matter: with w the windows' weights at a voxel, W f + b the head, and w' = w / sum(w), sum(w' (W f
+ b)) = W sum(w' f) + b. STU-Net-S has 16 features but 105 logits.
"""

from collections.abc import Iterator, Sequence

import torch

CONVERTED_PLANES = 8
"""Planes of a window that are converted to float32 at a time: 8 MiB for 128 x 128 x 16 features."""


class SlabAccumulator:
    """Adds windows in order of their start along z, and releases planes that no later window touches.

    It stores one window's depth of planes in float32, for any image length: plane z is stored at z modulo depth.

    Args:
        num_features: number of averaged feature maps.
        image_size: voxels (Z, Y, X) of the image that the windows cover.
        weight_ZYX: weight of each voxel of a window, on the slab's device.
    """

    def __init__(self, num_features: int, image_size: Sequence[int], weight_ZYX: torch.Tensor):
        self._weight_ZYX = weight_ZYX
        self._depth = len(weight_ZYX)
        self._released = 0
        slab = (self._depth, image_size[1], image_size[2])
        self._features_ZYXF = torch.zeros((*slab, num_features), device=weight_ZYX.device)
        self._weights_ZYX = torch.zeros(slab, device=weight_ZYX.device)

    def add(self, features_ZYXF: torch.Tensor, start: Sequence[int]) -> None:
        """Add one window.

        Args:
            features_ZYXF: the window's features, on the slab's device, of any real type.
            start: its first voxel (Z, Y, X) in the image.

        Raises:
            ValueError: the window does not begin at the first plane that is not yet released.
        """
        z, y, x = start
        if z != self._released:
            raise ValueError(f"a window at plane {z} cannot be added to the slab that begins at {self._released}")
        rows = slice(y, y + self._weight_ZYX.shape[1])
        columns = slice(x, x + self._weight_ZYX.shape[2])
        for planes, part in self._segments(z):
            weight = self._weight_ZYX[part]
            _add_weighted(self._features_ZYXF[planes, rows, columns], features_ZYXF[part], weight[..., None])
            self._weights_ZYX[planes, rows, columns] += weight

    def _segments(self, z: int) -> list[tuple[slice, slice]]:
        """For a window that begins at plane z: ranges of the slab, and the window's planes that belong there."""
        first = z % self._depth
        before_wrap = self._depth - first
        segments = [(slice(first, self._depth), slice(0, before_wrap))]
        return segments if first == 0 else [*segments, (slice(0, first), slice(before_wrap, self._depth))]

    @property
    def is_finite(self) -> bool:
        """Whether all features in the slab are finite."""
        return are_finite(self._features_ZYXF)

    def release(self, stop: int) -> Iterator[torch.Tensor]:
        """Yield the mean features (Y, X, F) of the next planes, up to `stop`.

        Each is a new tensor, 0 where no window was added. Its space in the slab is already free when it is yielded.
        """
        while self._released < stop:
            plane = self._released % self._depth
            weights_YX1 = self._weights_ZYX[plane][..., None]
            mean_YXF = self._features_ZYXF[plane] / weights_YX1.clamp_min(torch.finfo(torch.float32).tiny)
            self._features_ZYXF[plane] = 0
            self._weights_ZYX[plane] = 0
            self._released += 1
            yield mean_YXF


def are_finite(features: torch.Tensor) -> bool:
    """Whether all numbers are finite. Usually their sum says so in one pass; it may also be too large for its type."""
    return bool(torch.isfinite(features.sum())) or bool(torch.isfinite(features).all())


def _add_weighted(total: torch.Tensor, features_ZYXF: torch.Tensor, weight_ZYX1: torch.Tensor) -> None:
    """total += features * weight, in total's type. Features are converted in parts that fit the CPU's cache."""
    if features_ZYXF.dtype == total.dtype or total.device.type != "cpu":
        total.addcmul_(features_ZYXF.to(total.dtype), weight_ZYX1)
        return
    parts = zip(*(whole.split(CONVERTED_PLANES) for whole in (total, features_ZYXF, weight_ZYX1)), strict=True)
    for part, features, weight in parts:
        part.addcmul_(features.to(total.dtype), weight)
