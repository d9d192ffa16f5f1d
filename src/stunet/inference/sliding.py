"""Slide a window over an image: from intensities to mean features, plane by plane."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Protocol

import torch
from torch.nn import functional

from stunet.inference.accumulator import SlabAccumulator, are_finite
from stunet.inference.backends.base import Backend
from stunet.inference.batching import RunWindows, WindowBatches, window_batches
from stunet.inference.known_features import KnownFeatures, Start
from stunet.inference.mirroring import run_mirrored
from stunet.inference.windows import Windows, gaussian_weight

OnWindow = Callable[[int, int], None]
"""Called after each window with the number done and the total."""


class NotFiniteError(Exception):
    """The backend's features of a window are NaN or infinite.

    Attributes:
        window_CZYX: the window.
        corner: its first voxel (Z, Y, X) on the network's grid.
    """

    def __init__(self, window_CZYX: torch.Tensor, corner: tuple[int, int, int]):
        super().__init__(f"features that are not finite in the window at {corner}")
        self.window_CZYX = window_CZYX
        self.corner = corner


class PlaneSource(Protocol):
    """An image on the network's grid, whose planes are requested in order, a few at a time."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, Z, Y, X)."""
        ...

    def planes(self, start: int, stop: int) -> torch.Tensor:
        """The planes from start to stop - 1 (C, stop - start, Y, X), float32."""
        ...


@dataclass(frozen=True)
class Sliding:
    """Settings of the sliding window.

    Attributes:
        window_size: voxels (Z, Y, X).
        step: largest distance between neighbouring windows, as a fraction of the window.
        mirror_axes: axes along which windows are mirrored and averaged.
        batch_size: number of windows, of one position along z, that run together; None for one, or on an NVIDIA GPU as
            many as fit into its memory. The result is the same up to rounding.
    """

    window_size: tuple[int, int, int]
    step: float = 0.5
    mirror_axes: tuple[int, ...] = ()
    batch_size: int | None = None


def feature_planes(
    image: PlaneSource,
    backend: Backend,
    sliding: Sliding,
    on_window: OnWindow | None = None,
    windows: Windows | None = None,
    known: KnownFeatures | None = None,
) -> Iterator[torch.Tensor]:
    """The Gaussian-weighted mean of the backend's features over the windows, plane by plane.

    An image smaller than a window is padded with zeros, as in nnU-Net. Only one window's depth of the image and of the
    features is in memory at a time, for any image length.

    Args:
        image: on the network's grid.
        backend: runs the network.
        sliding: settings.
        on_window: called after each window that runs.
        windows: which windows count. Default: all.
        known: features of windows that need not run.

    Yields:
        (Y, X, F) float32 features of plane 0, 1, ..., on the backend's device; 0 where no window is.

    Raises:
        UserError: there is not enough memory for one window.
        NotFiniteError: features are NaN or infinite. They are checked once for all windows at one position along z.
    """
    _, depth, rows, columns = image.shape
    windows = windows or Windows((depth, rows, columns), sliding.window_size, sliding.step)
    (before_z, _), (top, _), (left, _) = windows.padding
    planes = _padded_planes(Slab(image, windows), backend, sliding, windows, known or KnownFeatures(), on_window)
    for number, plane_YXF in enumerate(planes):
        if before_z <= number < before_z + depth:
            yield plane_YXF[top : top + rows, left : left + columns]


def _padded_planes(
    slab: "Slab",
    backend: Backend,
    sliding: Sliding,
    windows: Windows,
    known: KnownFeatures,
    on_window: OnWindow | None,
) -> Iterator[torch.Tensor]:
    """As `feature_planes`, for an image at least as large as a window."""
    done, total = count(1), sum(start not in known for start in windows)
    on_run = (lambda: None) if on_window is None else (lambda: on_window(next(done), total))
    weight_ZYX = gaussian_weight(sliding.window_size).to(backend.device)
    means = SlabAccumulator(backend.head.num_features, windows.size, weight_ZYX)
    run = partial(run_mirrored, backend, axes=sliding.mirror_axes)
    batches = window_batches(run, backend, sliding.batch_size)
    for z, next_z in zip(windows.starts_z, [*windows.starts_z[1:], windows.size[0]], strict=True):
        if corners := windows.corners(z):
            slab.move_to(z, z + sliding.window_size[0])
            for start, features_ZYXF in _features(slab, z, corners, sliding.window_size, batches, known, on_run):
                means.add(features_ZYXF.to(backend.device), start)
            if not means.is_finite:
                raise _not_finite(run, slab, z, corners, sliding)
        yield from means.release(next_z)


def _features(
    slab: "Slab",
    z: int,
    corners: Sequence[tuple[int, int]],
    window_size: Sequence[int],
    batches: WindowBatches,
    known: KnownFeatures,
    on_run: Callable[[], None],
) -> Iterator[tuple[Start, torch.Tensor]]:
    """Each of the windows that begin at plane z, with its features; those run that are not known."""
    new = [corner for corner in corners if (z, *corner) not in known]
    running = batches.features([slab.window(corner, window_size) for corner in new])
    for start in ((z, y, x) for y, x in corners):
        if start in known:
            yield start, known.take(start)
        else:
            yield start, next(running)
            on_run()


def _not_finite(
    run: RunWindows, slab: "Slab", z: int, corners: Sequence[tuple[int, int]], sliding: Sliding
) -> NotFiniteError:
    """The error that names the first of the windows at plane z whose features are not finite; they run again."""
    for y, x in corners:
        window_CZYX = slab.window((y, x), sliding.window_size)
        if not are_finite(run(window_CZYX[None])):
            break
    return NotFiniteError(window_CZYX, (z - slab.before[0], y - slab.before[1], x - slab.before[2]))


class Slab:
    """The planes of an image that the current windows need, padded with zeros if the image is smaller than a window.

    Attributes:
        before: planes, rows and columns (Z, Y, X) of padding before the image.
    """

    def __init__(self, image: PlaneSource, windows: Windows):
        self._image = image
        self._padding = windows.padding
        self.before = windows.padding[0][0], windows.padding[1][0], windows.padding[2][0]
        self._planes_CZYX = torch.empty(0)
        self._start = self._stop = 0

    def move_to(self, start: int, stop: int) -> None:
        """Load the planes from start to stop - 1; keep those already loaded."""
        if start >= self._stop:
            self._planes_CZYX = self._padded(start, stop)
        else:
            kept = self._planes_CZYX[:, start - self._start :]
            self._planes_CZYX = torch.cat([kept, self._padded(self._stop, stop)], dim=1)
        self._start, self._stop = start, stop

    def window(self, corner: Sequence[int], size: Sequence[int]) -> torch.Tensor:
        """The window (C, Z, Y, X) with this first row and column, as a view."""
        (y, x), (_, rows, columns) = corner, size
        return self._planes_CZYX[:, :, y : y + rows, x : x + columns]

    def _padded(self, start: int, stop: int) -> torch.Tensor:
        """Planes of the padded image."""
        (above, _), rows, columns = self._padding
        first, last = (min(max(plane - above, 0), self._image.shape[1]) for plane in (start, stop))
        planes_CZYX = self._image.planes(first, last)
        amounts = (*columns, *rows, above + first - start, stop - above - last)
        return functional.pad(planes_CZYX, amounts) if any(amounts) else planes_CZYX
