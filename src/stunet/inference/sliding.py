"""The sliding window over an image: from intensities to mean features, plane by plane."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Protocol

import torch
from torch.nn import functional

from stunet.inference.accumulator import SlabAccumulator
from stunet.inference.backends.base import Backend
from stunet.inference.batching import window_batches
from stunet.inference.mirroring import run_mirrored
from stunet.inference.windows import Padding, gaussian_weight, padding_to, window_starts

OnWindow = Callable[[int, int], None]
"""Told after each window how many are done, and how many there are."""


class PlaneSource(Protocol):
    """An image on the network's grid, of which some planes at a time are asked for, never decreasing."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, Z, Y, X)."""
        ...

    def planes(self, start: int, stop: int) -> torch.Tensor:
        """The planes start..stop - 1 (C, stop - start, Y, X), float32."""
        ...


@dataclass(frozen=True)
class Sliding:
    """How a window slides.

    Attributes:
        window_size: (Z, Y, X) voxels.
        step: largest distance between neighbouring windows, as a fraction of the window.
        mirror_axes: axes over whose mirrored copies each window is averaged.
        batch_size: windows that go through the network together, of one position along z; None for one, or on an
            NVIDIA GPU as many as fit into its memory. The answer is the same, to rounding.
    """

    window_size: tuple[int, int, int]
    step: float = 0.5
    mirror_axes: tuple[int, ...] = ()
    batch_size: int | None = None


def feature_planes(
    image: PlaneSource, backend: Backend, sliding: Sliding, on_window: OnWindow | None = None
) -> Iterator[torch.Tensor]:
    """The Gaussian-weighted mean of the backend's features over all windows, one plane after the other.

    An image smaller than a window is surrounded by zeros, as nnU-Net does. One window's depth of the image and of the
    features is in memory at a time, whatever the length of the image.

    Yields:
        (Y, X, F) float32 features of plane 0, 1, ..., on the backend's device.

    Raises:
        UserError: the GPU has too little memory for one window.
    """
    _, depth, rows, columns = image.shape
    padding = padding_to((depth, rows, columns), sliding.window_size)
    (before_z, _), (top, _), (left, _) = padding
    for number, plane_YXF in enumerate(_padded_planes(_Slab(image, padding), backend, sliding, on_window)):
        if before_z <= number < before_z + depth:
            yield plane_YXF[top : top + rows, left : left + columns]


def _padded_planes(
    slab: "_Slab", backend: Backend, sliding: Sliding, on_window: OnWindow | None
) -> Iterator[torch.Tensor]:
    """As `feature_planes`, of an image that is as large as a window or larger."""
    starts_z, starts_y, starts_x = window_starts(slab.size, sliding.window_size, sliding.step)
    in_plane = list(product(starts_y, starts_x))
    done, total = 0, len(starts_z) * len(in_plane)
    weight_ZYX = gaussian_weight(sliding.window_size).to(backend.device)
    means = SlabAccumulator(backend.head.num_features, slab.size, weight_ZYX)
    run = partial(run_mirrored, backend, axes=sliding.mirror_axes)
    batches = window_batches(run, backend, sliding.batch_size)
    for z, next_z in zip(starts_z, [*starts_z[1:], slab.size[0]], strict=True):
        slab.move_to(z, z + sliding.window_size[0])
        features = batches.features([slab.window(corner, sliding.window_size) for corner in in_plane])
        for y, x in in_plane:
            means.add(next(features), (z, y, x))
            done += 1
            if on_window is not None:
                on_window(done, total)
        del features
        yield from means.release(next_z)


class _Slab:
    """The planes of an image that the windows need now, surrounded by zeros where the image is smaller than a window.

    Attributes:
        size: (Z, Y, X) of the padded image.
    """

    def __init__(self, image: PlaneSource, padding: Padding):
        self._image = image
        self._padding = padding
        self._planes_CZYX = torch.empty(0)
        self._start = self._stop = 0
        z, y, x = (before + size + after for size, (before, after) in zip(image.shape[1:], padding, strict=True))
        self.size = z, y, x

    def move_to(self, start: int, stop: int) -> None:
        """Hold the planes start..stop - 1; those that are there already stay."""
        if start >= self._stop:
            self._planes_CZYX = self._padded(start, stop)
        else:
            kept = self._planes_CZYX[:, start - self._start :]
            self._planes_CZYX = torch.cat([kept, self._padded(self._stop, stop)], dim=1)
        self._start, self._stop = start, stop

    def window(self, corner: Sequence[int], size: Sequence[int]) -> torch.Tensor:
        """The window (C, Z, Y, X) whose first row and column are given, as a view."""
        (y, x), (_, rows, columns) = corner, size
        return self._planes_CZYX[:, :, y : y + rows, x : x + columns]

    def _padded(self, start: int, stop: int) -> torch.Tensor:
        """Planes of the padded image."""
        (above, _), rows, columns = self._padding
        first, last = (min(max(plane - above, 0), self._image.shape[1]) for plane in (start, stop))
        planes_CZYX = self._image.planes(first, last)
        amounts = (*columns, *rows, above + first - start, stop - above - last)
        return functional.pad(planes_CZYX, amounts) if any(amounts) else planes_CZYX
