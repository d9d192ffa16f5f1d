"""Resampling as matrix products: splines are linear and separable, so one small matrix per axis is all there is.

The operator of an axis is what `scipy.ndimage.zoom` does to an identity matrix, prefilter and edges included. Applied
along all three axes and clipped to the input's range it equals `skimage.transform.resize(mode="edge",
anti_aliasing=False)`, which nnU-Net calls. Matrices are computed in float64, products in float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from scipy import ndimage

SLAB_VOXELS = 1 << 21
"""Input voxels converted to float32 at a time."""

BlockReader = Callable[[int, int], torch.Tensor]
"""Gives planes start..stop of one channel as float32 (stop - start, Y, X) on the device of the computation."""


@lru_cache(maxsize=64)
def axis_operator(n_in: int, n_out: int, order: int) -> np.ndarray:
    """Return the resampling of one axis as a matrix.

    Args:
        n_in, n_out: Number of samples before and after; both grids cover the same extent.
        order: Spline order, 0 (nearest) to 5; 1 is linear, 3 cubic.

    Returns:
        (n_out, n_in) float64; do not write to it, it is shared between calls.
    """
    if n_in == n_out:
        operator = np.eye(n_in)
    elif order == 0:
        operator = np.eye(n_in)[nearest_taps(n_in, n_out)]
    else:
        factor = 1 / (n_in / n_out)
        operator = ndimage.zoom(np.eye(n_in), (factor, 1), order=order, mode="nearest", grid_mode=True)
    operator.flags.writeable = False
    return operator


def nearest_taps(n_in: int, n_out: int) -> np.ndarray:
    """Return for each output sample (n_out,) the int64 index of the nearest input sample; of two, the upper."""
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
    """Decide as nnU-Net does which thick axis is resampled on its own (`determine_do_sep_z_and_axis`).

    Args:
        spacing: Of the grid looked at first, in mm.
        other_spacing: Of the grid looked at when the first is not anisotropic.
        force: True always (then by the first grid), False never, None by `threshold`.
        threshold: Ratio of the largest to the smallest spacing.

    Returns:
        The axis, or None to treat all alike; also None when two axes are equally thick.
    """
    candidates = [spacing] if force else [] if force is False else [spacing, other_spacing]
    for candidate in candidates:
        if force or max(candidate) / min(candidate) > threshold:
            thick = [axis for axis, size in enumerate(candidate) if size == max(candidate)]
            return thick[0] if len(thick) == 1 else None
    return None


@dataclass(frozen=True)
class Interpolation:
    """How a volume is interpolated.

    Attributes:
        order: Spline order, 0 (nearest) to 5; 1 is linear, 3 cubic.
        separate_front: Whether the planes across the front axis are resampled first, each clipped to its own range, and
            the front axis after them, as nnU-Net does for thick slices. Otherwise all axes are alike and the result is
            clipped to the range of the whole.
        front_order: Spline order along the front axis where that is separate.
    """

    order: int = 3
    separate_front: bool = False
    front_order: int = 0


def resample(
    array_CZYX: np.ndarray | torch.Tensor,
    new_shape: Sequence[int],
    interpolation: Interpolation,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Resample a volume to a new shape over the same extent.

    Args:
        array_CZYX: Any real type; converted slab by slab. Z is the front axis; swap axes for another.
        new_shape: (Z, Y, X).
        interpolation: Spline orders.
        device: Where to compute.

    Returns:
        (C, *new_shape) float32 on `device`.
    """
    output = torch.empty((len(array_CZYX), *new_shape), dtype=torch.float32, device=device)
    for channel, result in zip(array_CZYX, output, strict=True):
        resample_blocks(partial(read_block, channel, device=device), channel.shape, result, interpolation)
    return output


def resample_blocks(
    read: BlockReader, shape: Sequence[int], output: torch.Tensor, interpolation: Interpolation
) -> None:
    """Resample one channel that is read in blocks of planes, into a given tensor.

    Planes are resampled first, then the front axis, so that besides input and output only the resampled planes are in
    memory.

    Args:
        read: Source of the planes.
        shape: (Z, Y, X) of the input.
        output: (Z, Y, X) float32, written to; its shape is the new shape. May be a view.
        interpolation: Spline orders.
    """
    separate = interpolation.separate_front
    if tuple(shape) == tuple(output.shape):
        for start, stop in blocks(shape):
            output[start:stop] = read(start, stop)
        return
    planes, low, high = _resample_planes(read, shape, output, interpolation.order, separate)
    _resample_front(planes, output, interpolation.front_order if separate else interpolation.order)
    if not separate:
        output.clamp_(low, high)


def read_block(
    array_ZYX: np.ndarray | torch.Tensor, start: int, stop: int, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Copy planes start..stop of any real type to a float32 tensor on a device, in C order."""
    block = array_ZYX[start:stop]
    if isinstance(block, torch.Tensor):
        return block.to(device=device, dtype=torch.float32, copy=True)
    return torch.from_numpy(np.array(block, dtype=np.float32, order="C")).to(device)


def blocks(shape: Sequence[int]) -> list[tuple[int, int]]:
    """Cut the front axis into ranges of about `SLAB_VOXELS` voxels."""
    front, y, x = shape
    step = max(1, SLAB_VOXELS // max(1, y * x))
    return [(start, min(start + step, front)) for start in range(0, front, step)]


def _resample_planes(
    read: BlockReader, shape: Sequence[int], output: torch.Tensor, order: int, clip: bool
) -> tuple[torch.Tensor, float, float]:
    """Resample within the planes; return (Z, new Y, new X), and the smallest and largest value of the input."""
    rows, columns = (_tensor_operator(shape[axis], output.shape[axis], order, output.device) for axis in (1, 2))
    planes = torch.empty((shape[0], *output.shape[1:]), dtype=torch.float32, device=output.device)
    low, high = float("inf"), float("-inf")
    for start, stop in blocks(shape):
        block = read(start, stop)
        lows, highs = block.amin(dim=(1, 2), keepdim=True), block.amax(dim=(1, 2), keepdim=True)
        low, high = min(low, float(lows.min())), max(high, float(highs.max()))
        result = torch.matmul(torch.matmul(rows, block), columns.T)
        planes[start:stop] = torch.clamp(result, lows, highs) if clip else result
    return planes, low, high


def _resample_front(planes: torch.Tensor, output: torch.Tensor, order: int) -> None:
    """Resample the front axis of (front, Y, X) into `output`."""
    n_in, n_out = len(planes), len(output)
    if order == 0 or n_in == n_out:
        for target, source in enumerate(nearest_taps(n_in, n_out)):
            output[target] = planes[source]
    elif output.is_contiguous():
        operator = _tensor_operator(n_in, n_out, order, planes.device)
        torch.mm(operator, planes.flatten(1), out=output.view(n_out, -1))
    else:
        operator = _tensor_operator(n_in, n_out, order, planes.device)
        output.copy_((operator @ planes.flatten(1)).view(output.shape))


def _tensor_operator(n_in: int, n_out: int, order: int, device: torch.device) -> torch.Tensor:
    """The operator in float32 on a device."""
    return torch.tensor(axis_operator(n_in, n_out, order), dtype=torch.float32).to(device)
