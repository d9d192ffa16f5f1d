"""The sliding window over an image: from intensities to mean features, plane by plane."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import torch
from torch.nn import functional

from stunet.inference.accumulator import SlabAccumulator
from stunet.inference.backends.base import Backend
from stunet.inference.mirroring import run_mirrored
from stunet.inference.windows import gaussian_weight, padding_to, window_starts

OnWindow = Callable[[int, int], None]
"""Told after each step how many windows are done, and how many there are."""


def feature_planes(
    image_CZYX: torch.Tensor,
    backend: Backend,
    window_size: Sequence[int],
    step: float = 0.5,
    mirror_axes: Sequence[int] = (),
    batch_size: int = 1,
    on_window: OnWindow | None = None,
) -> Iterator[torch.Tensor]:
    """The Gaussian-weighted mean of the backend's features over all windows, one plane after the other.

    An image smaller than a window is surrounded by zeros, as nnU-Net does.

    Args:
        image_CZYX: float32, on the network's grid.
        backend: what runs the network.
        window_size: (Z, Y, X) voxels.
        step: largest distance between neighbouring windows, as a fraction of the window.
        mirror_axes: axes over whose mirrored copies each window is averaged.
        batch_size: windows that go through the network together.
        on_window: see `OnWindow`.

    Yields:
        (F, Y, X) float32 features of plane 0, 1, ..., on the backend's device.
    """
    (_, rows, columns), padding = image_CZYX.shape[1:], padding_to(image_CZYX.shape[1:], window_size)
    (before_z, after_z), (top, _), (left, _) = padding
    image_CZYX = _padded(image_CZYX, padding)
    planes = _padded_planes(image_CZYX, backend, window_size, step, mirror_axes, batch_size, on_window or _tell_nobody)
    last = image_CZYX.shape[1] - after_z
    for number, plane_FYX in enumerate(planes):
        if before_z <= number < last:
            yield plane_FYX[:, top : top + rows, left : left + columns]


def _tell_nobody(done: int, total: int) -> None:
    """What `on_window` is if nobody wants to know."""


def _padded(image_CZYX: torch.Tensor, padding: Sequence[Sequence[int]]) -> torch.Tensor:
    """Surrounded by zeros; the image itself where none are needed."""
    amounts = [number for axis in reversed(padding) for number in axis]
    return functional.pad(image_CZYX, amounts) if any(amounts) else image_CZYX


def _padded_planes(
    image_CZYX: torch.Tensor,
    backend: Backend,
    window_size: Sequence[int],
    step: float,
    mirror_axes: Sequence[int],
    batch_size: int,
    on_window: OnWindow,
) -> Iterator[torch.Tensor]:
    """As `feature_planes`, of an image that is as large as a window or larger."""
    starts_z, starts_y, starts_x = window_starts(image_CZYX.shape[1:], window_size, step)
    in_plane = list(product(starts_y, starts_x))
    done, total = 0, len(starts_z) * len(in_plane)
    weight_ZYX = gaussian_weight(window_size).to(backend.device)
    slab = SlabAccumulator(backend.head.num_features, image_CZYX.shape[1:], weight_ZYX)
    for z, next_z in zip(starts_z, [*starts_z[1:], image_CZYX.shape[1]], strict=True):
        for first in range(0, len(in_plane), batch_size):
            starts = [(z, y, x) for y, x in in_plane[first : first + batch_size]]
            _add_windows(slab, image_CZYX, starts, window_size, backend, mirror_axes)
            done += len(starts)
            on_window(done, total)
        yield from slab.release(next_z)


def _add_windows(
    slab: SlabAccumulator,
    image_CZYX: torch.Tensor,
    starts: Sequence[Sequence[int]],
    window_size: Sequence[int],
    backend: Backend,
    mirror_axes: Sequence[int],
) -> None:
    """Run the network on windows and add its features; nothing of them outlives the call."""
    windows_BCZYX = torch.stack([_window(image_CZYX, start, window_size) for start in starts])
    features_BFZYX = run_mirrored(backend, windows_BCZYX, mirror_axes)
    for start, features_FZYX in zip(starts, features_BFZYX, strict=True):
        slab.add(features_FZYX, start)


def _window(image_CZYX: torch.Tensor, start: Sequence[int], size: Sequence[int]) -> torch.Tensor:
    """The window (C, Z, Y, X) that begins at `start`, as a view."""
    z, y, x = (slice(first, first + length) for first, length in zip(start, size, strict=True))
    return image_CZYX[:, z, y, x]
