"""Resampling as matrix products. Splines are linear and separable, so one small matrix per axis is enough.

The operator of an axis is the result of `scipy.ndimage.zoom` on an identity matrix, including prefilter and edges.
Applied along all three axes and clipped to the input's range, it equals `skimage.transform.resize(mode="edge",
anti_aliasing=False)`, which nnU-Net calls. Matrices are computed in float64, products in float32.

The prefilter makes the matrix of a cubic spline dense. But its weights fall by a factor of 2 - sqrt(3) = 0.27 with each
sample, and 16 samples away they are below float32's rounding error. So planes are resampled some rows and columns at a
time, from only the relevant part of the input, and a volume some planes at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from scipy import ndimage

from stunet.imaging.paging import release

SLAB_VOXELS = 1 << 20
"""Number of voxels that are converted to float32 or resampled at a time."""

NEGLIGIBLE = 2.0**-30
"""Weights below this fraction of an operator's largest weight count as zero. float32 has a precision of 2^-24."""

BAND_SAMPLES = 32
"""Rows or columns computed at a time: few, so that they depend on little input, but enough for fast products."""

PlaneReader = Callable[[int, int], torch.Tensor]
"""Returns planes start..stop - 1 of one channel as float32 (stop - start, Y, X) on the device of the computation.

The caller owns the tensor and may write to it.
"""


def axis_operator(n_in: int, n_out: int, order: int) -> np.ndarray:
    """Return the matrix that resamples one axis from n_in samples to n_out over the same extent.

    `order` is that of the spline, 0 (nearest) to 5. The matrix is (n_out, n_in) float64.
    """
    if n_in == n_out:
        return np.eye(n_in)
    if order == 0:
        return np.eye(n_in)[nearest_taps(n_in, n_out)]
    factor = 1 / (n_in / n_out)
    return ndimage.zoom(np.eye(n_in), (factor, 1), order=order, mode="nearest", grid_mode=True)


def nearest_taps(n_in: int, n_out: int) -> np.ndarray:
    """Return the int64 index of the nearest input sample for each output (n_out,). Ties go to the upper one."""
    return np.clip(np.floor(_positions(n_in, n_out) + 0.5), 0, n_in - 1).astype(np.int64)


def linear_taps(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the order-1 operator in sparse form: output = (1 - weight) * input[lower] + weight * input[upper].

    Returns:
        lower (n_out,) int64, upper (n_out,) int64, weight of upper (n_out,) float32 in 0..1.
    """
    positions = np.clip(_positions(n_in, n_out), 0, n_in - 1)
    lower = np.floor(positions).astype(np.int64)
    return lower, np.minimum(lower + 1, n_in - 1), (positions - lower).astype(np.float32)


def _positions(n_in: int, n_out: int) -> np.ndarray:
    """Centres of the output samples (n_out,) in units of input samples."""
    return n_in / n_out * (np.arange(n_out) + 0.5) - 0.5


def separate_axis(
    spacing: Sequence[float], other_spacing: Sequence[float], force: bool | None, threshold: float
) -> int | None:
    """Decide as nnU-Net does whether a thick axis is resampled separately (`determine_do_sep_z_and_axis`).

    Args:
        spacing: Of the grid that is checked first, in mm.
        other_spacing: Of the grid that is checked if the first is not anisotropic.
        force: True always (using the first grid), False never, None by `threshold`.
        threshold: Ratio of the largest to the smallest spacing.

    Returns:
        The axis, or None to treat all axes alike; also None if two axes are equally thick.
    """
    candidates = [spacing] if force else [] if force is False else [spacing, other_spacing]
    for candidate in candidates:
        if force or max(candidate) / min(candidate) > threshold:
            thick = [axis for axis, size in enumerate(candidate) if size == max(candidate)]
            return thick[0] if len(thick) == 1 else None
    return None


@dataclass(frozen=True)
class Interpolation:
    """How to interpolate a volume.

    Attributes:
        order: Spline order, 0 (nearest) to 5; 1 is linear, 3 cubic.
        separate_axis: The axis (0, 1 or 2 for Z, Y or X) that is resampled separately, after the others, as nnU-Net
            does for thick slices. Each plane across it is clipped to its own range. None: all axes are treated alike,
            and the result is clipped to the range of the whole.
        separate_order: Spline order along the separate axis.
    """

    order: int = 3
    separate_axis: int | None = None
    separate_order: int = 0

    @property
    def orders(self) -> tuple[int, int, int]:
        """Spline order along Z, Y and X."""
        z, y, x = (self.separate_order if axis == self.separate_axis else self.order for axis in range(3))
        return z, y, x


def resample(array_CZYX: np.ndarray, new_shape: Sequence[int], interpolation: Interpolation) -> torch.Tensor:
    """Resample a volume (C, Z, Y, X) of any real type to a new shape (Z, Y, X) over the same extent.

    Returns:
        (C, *new_shape) float32.
    """
    output = torch.empty((len(array_CZYX), *new_shape))
    resampling = Resampling(tuple(array_CZYX.shape[1:]), tuple(new_shape), interpolation, output.device)
    for channel, result in zip(array_CZYX, output, strict=True):
        copy_planes(ResampledPlanes(partial(read_block, channel), resampling), result)
    return output


def read_block(array_ZYX: np.ndarray, start: int, stop: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Copy planes start..stop - 1 of any real type to a float32 tensor on a device, in C order."""
    copied = np.array(array_ZYX[start:stop], dtype=np.float32, order="C")
    release(array_ZYX)
    return torch.from_numpy(copied).to(device)


def copy_planes(read: PlaneReader, output_ZYX: torch.Tensor, start: int = 0) -> None:
    """Fill a tensor with planes, starting at plane `start`, slab by slab."""
    for first, last in blocks(output_ZYX.shape):
        output_ZYX[first:last] = read(start + first, start + last)


def blocks(shape: Sequence[int], start: int = 0) -> list[tuple[int, int]]:
    """Split planes start..start + Z - 1 of (Z, Y, X) into half-open ranges of about `SLAB_VOXELS` voxels."""
    depth, y, x = shape
    step = max(1, SLAB_VOXELS // max(1, y * x))
    return [(first, min(first + step, start + depth)) for first in range(start, start + depth, step)]


@dataclass(frozen=True, eq=False)
class Resampling:
    """A resampling from one grid to another over the same extent, shared by all channels.

    Attributes:
        shape, new_shape: (Z, Y, X) of the two grids.
        interpolation: Spline orders.
        device: Where to compute.
    """

    shape: tuple[int, ...]
    new_shape: tuple[int, ...]
    interpolation: Interpolation
    device: torch.device

    @cached_property
    def axes(self) -> tuple["_AxisMatrix | _AxisTaps", ...]:
        """The operators along Z, Y and X."""
        sizes = zip(self.shape, self.new_shape, self.interpolation.orders, strict=True)
        return tuple(_axis(n_in, n_out, order, self.device) for n_in, n_out, order in sizes)

    def along(self, axis: int, block_ZYX: torch.Tensor) -> torch.Tensor:
        """Resample one axis of a block completely. Returns the block itself if the size does not change."""
        n_in, n_out = self.shape[axis], self.new_shape[axis]
        return block_ZYX if n_in == n_out else torch.cat(list(self._bands(axis, block_ZYX)), dim=axis)

    def _bands(self, axis: int, block_ZYX: torch.Tensor) -> Iterator[torch.Tensor]:
        operator, n_out = self.axes[axis], self.new_shape[axis]
        for start in range(0, n_out, BAND_SAMPLES):
            stop = min(start + BAND_SAMPLES, n_out)
            first, last = operator.inputs(start, stop)
            yield operator.apply(block_ZYX.narrow(axis, first, last - first), axis, start, stop)

    @property
    def overshoots(self) -> bool:
        """Whether results can exceed the input's range, so that they must be clipped."""
        changed = [old != new for old, new in zip(self.shape, self.new_shape, strict=True)]
        return self.interpolation.order > 1 and any(changed)


class ResampledPlanes:
    """One channel on another grid, computed a few planes at a time: a `PlaneReader`.

    First, planes of the input are resampled in-plane. Then the planes needed for a request are combined along Z. The
    former are kept for the next request: if planes are requested from first to last, in any portions, a channel is read
    and resampled once. Any other order gives the same planes for more work. Memory holds the input planes of one
    request.

    If clipping needs the range of the whole input, the input is first read once.
    """

    def __init__(self, read: PlaneReader, resampling: Resampling):
        self._read = read
        self._resampling = resampling
        self._separate = resampling.interpolation.separate_axis
        clips_whole_input = resampling.overshoots and self._separate != 0
        self._range = _value_range(read, resampling.shape, self._separate) if clips_whole_input else None
        self._held_ZYX = torch.empty(0, device=resampling.device)
        self._first = self._last = 0

    def __call__(self, start: int, stop: int) -> torch.Tensor:
        """The planes start..stop - 1 of the new grid."""
        along_z = self._resampling.axes[0]
        planes_ZYX = along_z.apply(self._input_planes(*along_z.inputs(start, stop)), 0, start, stop)
        if self._range:
            planes_ZYX.clamp_(*self._range)
        # a separate Z is already done; Y or X comes last
        return self._resampling.along(self._separate, planes_ZYX) if self._separate else planes_ZYX

    def _input_planes(self, first: int, last: int) -> torch.Tensor:
        """Planes first..last - 1 of the input, resampled in-plane. Those of the last call are reused."""
        if self._first <= first < self._last:
            kept_ZYX = self._held_ZYX[first - self._first : last - self._first]
        else:
            kept_ZYX = self._held_ZYX[:0]
        begin = first + len(kept_ZYX)
        ranges = blocks((last - begin, *self._resampling.shape[1:]), begin)
        self._held_ZYX = torch.cat([kept_ZYX, *(self._within_planes(*pair) for pair in ranges)])
        self._first, self._last = first, last
        return self._held_ZYX

    def _within_planes(self, first: int, last: int) -> torch.Tensor:
        """Read planes and resample their axes, except a separate one. Clip them if each has its own range."""
        planes_ZYX = block_ZYX = self._read(first, last)
        for axis in (1, 2):
            if axis != self._separate:
                planes_ZYX = self._resampling.along(axis, planes_ZYX)
        if self._separate == 0 and self._resampling.overshoots:
            planes_ZYX = planes_ZYX.clamp(*_extremes(block_ZYX, (1, 2)))
        return planes_ZYX


def _value_range(read: PlaneReader, shape: Sequence[int], axis: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimum and maximum of a channel, or of each of its planes across an axis other than Z.

    Returns:
        Two tensors that broadcast against (Z, Y, X).
    """
    others = tuple(other for other in range(3) if other != axis)
    lows, highs = zip(*(_extremes(read(start, stop), others) for start, stop in blocks(shape)), strict=True)
    return torch.stack(lows).amin(0), torch.stack(highs).amax(0)


def _extremes(block_ZYX: torch.Tensor, axes: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimum and maximum over some axes, which are kept with length 1."""
    return block_ZYX.amin(axes, keepdim=True), block_ZYX.amax(axes, keepdim=True)


@dataclass(frozen=True, eq=False)
class _AxisTaps:
    """An axis operator where each new sample equals one of the old.

    Attributes:
        taps: (n_out,) index of the old sample, never decreasing.
    """

    taps: np.ndarray

    def inputs(self, start: int, stop: int) -> tuple[int, int]:
        """Half-open range of the input samples needed for outputs start..stop - 1."""
        return int(self.taps[start]), int(self.taps[stop - 1]) + 1

    def apply(self, block_ZYX: torch.Tensor, axis: int, start: int, stop: int) -> torch.Tensor:
        """Outputs start..stop - 1 along an axis, from a block with `inputs(start, stop)` along it; never a view."""
        positions = torch.from_numpy(self.taps[start:stop] - self.taps[start])
        return block_ZYX.index_select(axis, positions.to(block_ZYX.device))


@dataclass(frozen=True, eq=False)
class _AxisMatrix:
    """An axis operator where each new sample is a weighted sum of old samples around it.

    Attributes:
        matrix: (n_out, n_in) float32.
        first, last: (n_out,) half-open range of all inputs with a non-negligible weight; neither ever decreases.
    """

    matrix: torch.Tensor
    first: np.ndarray
    last: np.ndarray

    def inputs(self, start: int, stop: int) -> tuple[int, int]:
        """As for `_AxisTaps`."""
        return int(self.first[start]), int(self.last[stop - 1])

    def apply(self, block_ZYX: torch.Tensor, axis: int, start: int, stop: int) -> torch.Tensor:
        """As for `_AxisTaps`."""
        matrix = self.matrix[start:stop, slice(*self.inputs(start, stop))]
        if axis == 0:
            return (matrix @ block_ZYX.flatten(1)).unflatten(1, block_ZYX.shape[1:])
        return matrix @ block_ZYX if axis == 1 else block_ZYX @ matrix.T


def _axis(n_in: int, n_out: int, order: int, device: torch.device) -> _AxisMatrix | _AxisTaps:
    """The operator of an axis in its cheapest form."""
    if n_in == n_out or order == 0:
        return _AxisTaps(nearest_taps(n_in, n_out))
    operator = axis_operator(n_in, n_out, order).astype(np.float32)
    weights = np.abs(operator)
    matters = weights > NEGLIGIBLE * weights.max()
    # an output at an input sample needs only that sample; its neighbours need more
    first = np.minimum.accumulate(matters.argmax(axis=1)[::-1])[::-1]
    last = np.maximum.accumulate(n_in - matters[:, ::-1].argmax(axis=1))
    return _AxisMatrix(torch.from_numpy(operator).to(device), first, last)
