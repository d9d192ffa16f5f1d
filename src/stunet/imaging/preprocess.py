"""Bring a scan to the network's grid, with a record that maps labels back to the scan's grid.

The steps follow nnU-Net: (orientation,) transpose, crop to the nonzero box, normalise, resample. Version 1 resamples
before it normalises. Geometry changes are views until the last step. Intensities are computed a few planes at a time.
So memory holds at most one copy of the scan, in its file's type, and only the requested planes of the network's image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from scipy import ndimage

from stunet.errors import FileError, UserError
from stunet.imaging.affine import AxisMoves, axis_moves
from stunet.imaging.box import Box, nonzero_box
from stunet.imaging.normalize import intensity_map, normalized
from stunet.imaging.resample import (
    Interpolation,
    PlaneReader,
    ResampledPlanes,
    Resampling,
    blocks,
    copy_planes,
    read_block,
    separate_axis,
)
from stunet.imaging.volume import Volume
from stunet.plans.preprocessing import ChannelNormalization, PreprocessingPlan

MASK_THRESHOLD = 0.5 - 1e-6
"""Resampled masks are true from one half up; the margin allows for float32 rounding."""

PartFinder = Callable[[np.ndarray, Sequence[float]], Box]
"""Takes a scan (C, Z, Y, X) in network axes and its spacing in mm, and returns the box to process."""


@dataclass(frozen=True)
class GridRecord:
    """The relation between the network's grid and the scan's; everything needed to map labels back.

    Attributes:
        scan_shape: (Z, Y, X) of the file.
        reorientation: Moves from the file's axes to the plan's orientation.
        transpose_forward: Network axis a is the (reoriented) scan's axis transpose_forward[a].
        crop_box: The kept part, in network axes: half-open ranges.
        cropped_spacing: Spacing of the scan's voxels in mm, network axes.
        network_shape: Size of the network's grid, which covers the same extent as the crop.
        image_separate_axis: Thick axis that was resampled separately, network axes; None if there is none.
        logits_orders: Interpolation order per network axis from the network's grid to the cropped one.
    """

    scan_shape: tuple[int, int, int]
    reorientation: AxisMoves
    transpose_forward: tuple[int, int, int]
    crop_box: Box
    cropped_spacing: tuple[float, float, float]
    network_shape: tuple[int, int, int]
    image_separate_axis: int | None
    logits_orders: tuple[int, int, int]

    @property
    def cropped_shape(self) -> tuple[int, int, int]:
        """Size of `crop_box`: the scan's voxels in network axes."""
        z, y, x = (stop - start for start, stop in self.crop_box)
        return z, y, x


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """A scan on the network's grid, computed a few planes at a time.

    If planes are requested from first to last, in any portions, each voxel of the scan is read once. Any other order
    works but is slower. Not thread-safe.

    Attributes:
        record: For `cropped_view`.
        channels: The source of each channel's planes.
        device: Where planes are computed.
    """

    record: GridRecord
    channels: tuple[PlaneReader, ...]
    device: torch.device

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, Z, Y, X), network axes."""
        return len(self.channels), *self.record.network_shape

    def planes(self, start: int, stop: int) -> torch.Tensor:
        """Compute planes start..stop - 1.

        Returns:
            (C, stop - start, Y, X) float32 on the device.

        Raises:
            ValueError: There are no such planes.
        """
        channels, depth, rows, columns = self.shape
        if not 0 <= start <= stop <= depth:
            raise ValueError(f"there are planes 0..{depth - 1}, not {start}..{stop - 1}")
        planes_CZYX = torch.empty((channels, stop - start, rows, columns), dtype=torch.float32, device=self.device)
        for read, planes_ZYX in zip(self.channels, planes_CZYX, strict=True):
            copy_planes(read, planes_ZYX, start)
        return planes_CZYX


def prepare(
    volume: Volume, plan: PreprocessingPlan, device: torch.device | str = "cpu", find_part: PartFinder | None = None
) -> PreparedImage:
    """Bring a scan to the network's grid and intensities, with planes computed on request.

    Properties of the whole scan (its nonzero box, its range or its mean) are computed here, by reading it slab by slab.
    Only a plan with masks needs more memory: the scan's mask, one byte per voxel, and seven while it is computed.

    Args:
        volume: Any orientation, any real type. Its array is read again for each plane, so it must not change.
        plan: The preprocessing that the network was trained with.
        device: Where resampling runs and the planes are stored.
        find_part: Finds the part to process; its intensities are normalised with the whole scan's statistics. Default:
            everything.

    Returns:
        The image, whose planes together equal the result of `preprocess`, and the record of its grid.

    Raises:
        UserError: The scan has another number of channels than the plan or voxels that are not finite, or it would
            shrink to nothing at the plan's spacing.
    """
    _check_channels(volume, plan)
    _check_finite(volume)
    record = _plan_grid(volume, plan)
    device = torch.device(device)
    whole = _sources(volume, plan, record, device)
    part = whole
    if find_part is not None:
        record = _part_of(record, find_part(cropped_view(volume.array, record), record.cropped_spacing), plan, volume)
        part = _sources(volume, plan, record, device)
    chain = {"nnunet_v1": _resample_then_normalize, "nnunet_v2": _normalize_then_resample}[plan.convention]
    channels = tuple(chain(*sources) for sources in zip(whole, part, plan.normalization, strict=True))
    return PreparedImage(record, channels, device)


def preprocess(
    volume: Volume, plan: PreprocessingPlan, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, GridRecord]:
    """Bring a whole scan to the network's grid and intensities at once; see `prepare`.

    Equals nnU-Net v2's `DefaultPreprocessor.run_case_npy`, or nnU-Net v1's `GenericPreprocessor` if the plan's
    convention says so. The result may be smaller than a patch; the sliding window pads it.

    Returns:
        Image (C, Z, Y, X) float32 in network axes, and the record of its grid.
    """
    image = prepare(volume, plan, device)
    return image.planes(0, image.record.network_shape[0]), image.record


def cropped_view(array: np.ndarray, record: GridRecord) -> np.ndarray:
    """View an array on the scan's grid as the cropped grid in network axes.

    Writing to the view of a label map writes to the map itself, so labels can be restored in parts.

    Args:
        array: (..., Z, Y, X) of `record.scan_shape`, axes as in the file.
        record: From `prepare`.

    Returns:
        (..., *record.cropped_shape), sharing memory with `array`.
    """
    view = AxisMoves(record.transpose_forward).apply(record.reorientation.apply(array))
    z, y, x = (slice(start, stop) for start, stop in record.crop_box)
    return view[..., z, y, x]


def _check_channels(volume: Volume, plan: PreprocessingPlan) -> None:
    """Refuse a number of channels other than the plan's, and RGB channels outside 0..255."""
    if len(volume.array) != len(plan.normalization):
        raise UserError(
            f"{volume.source}: has {len(volume.array)} channel(s), but the model needs {len(plan.normalization)}; "
            "give one file per channel, in the model's order."
        )
    for array, channel in zip(volume.array, plan.normalization, strict=True):
        if channel.scheme == "rgb_to_0_1" and (array.min() < 0 or array.max() > 255):
            raise FileError(
                f"{volume.source}: the model needs colours from 0 to 255, but the values run from {array.min():g} to "
                f"{array.max():g}; give the colour channels as they were."
            )


def _check_finite(volume: Volume) -> None:
    """Refuse NaN and infinity, which resampling would spread over the whole scan."""
    if volume.array.dtype.kind != "f":
        return
    count, first = 0, None
    for channel in volume.array:
        for start, stop in blocks(channel.shape):
            bad = ~np.isfinite(channel[start:stop])
            if bad.any():
                count += int(bad.sum())
                first = first or [int(i) for i in np.argwhere(bad)[0] + (start, 0, 0)][::-1]
    if count:
        raise FileError(
            f"{volume.source}: {count} of {volume.array.size} voxels are not finite (NaN or infinite), the first at "
            f"x, y, z = {first}; replace them by real values, for example the background's."
        )


def _plan_grid(volume: Volume, plan: PreprocessingPlan) -> GridRecord:
    """Compute all shapes from the file to the network."""
    moves = axis_moves(volume.affine, plan.orientation) if plan.orientation else AxisMoves()
    order = plan.transpose_forward
    oriented_spacing = [volume.spacing[axis] for axis in moves.transpose]
    spacing = (oriented_spacing[order[0]], oriented_spacing[order[1]], oriented_spacing[order[2]])
    box = nonzero_box(AxisMoves(order).apply(moves.apply(volume.array)))
    first, second = (plan.spacing, spacing) if plan.convention == "nnunet_v2" else (spacing, plan.spacing)
    rule = plan.force_separate_z, plan.anisotropy_threshold
    logits_axis = separate_axis(first, second, *rule)
    orders = tuple(plan.logits_order_z if axis == logits_axis else plan.logits_order for axis in range(3))
    return GridRecord(
        scan_shape=volume.shape,
        reorientation=moves,
        transpose_forward=order,
        crop_box=box,
        cropped_spacing=spacing,
        network_shape=_network_shape(box, spacing, plan, volume),
        image_separate_axis=separate_axis(spacing, plan.spacing, *rule),
        logits_orders=(orders[0], orders[1], orders[2]),
    )


def _part_of(record: GridRecord, part: Box, plan: PreprocessingPlan, volume: Volume) -> GridRecord:
    """The record of a box of the cropped grid."""
    z, y, x = ((first + start, first + stop) for (first, _), (start, stop) in zip(record.crop_box, part, strict=True))
    network = _network_shape((z, y, x), record.cropped_spacing, plan, volume)
    return replace(record, crop_box=(z, y, x), network_shape=network)


def _network_shape(box: Box, spacing: Sequence[float], plan: PreprocessingPlan, volume: Volume) -> tuple[int, int, int]:
    """Voxels (Z, Y, X) of the network's grid over a box."""
    z, y, x = (stop - start for start, stop in box)
    # one division, one product, then round half to even: this order determines the last voxel
    network = [round(old / new * size) for old, new, size in zip(spacing, plan.spacing, (z, y, x), strict=True)]
    if min(network) < 1:
        raise FileError(
            f"{volume.source}: its {x}x{y}x{z} voxels vanish at the model's spacing of {plan.spacing} mm; the scan is "
            "too small or its spacing wrong."
        )
    return network[0], network[1], network[2]


def _nonzero_mask(array_CZYX: np.ndarray) -> np.ndarray:
    """Voxels (Z, Y, X) that are nonzero in any channel, with holes filled (the same for a crop and the whole)."""
    nonzero = np.zeros(array_CZYX.shape[1:], dtype=bool)
    for channel in array_CZYX:
        nonzero |= channel != 0
    zero_regions, count = ndimage.label(~nonzero)
    reaches_outside = np.zeros(count + 1, dtype=bool)
    for axis in range(3):
        for end in (0, -1):
            reaches_outside[np.unique(zero_regions.take(end, axis))] = True
    reaches_outside[0] = False
    return ~reaches_outside[zero_regions]


@dataclass(frozen=True)
class _Source:
    """One channel of a box of the scan.

    Attributes:
        read: Its planes, as in the scan.
        mask: Planes of the voxels that count; None if all do.
        resampling: To the network's grid.
    """

    read: PlaneReader
    mask: PlaneReader | None
    resampling: Resampling

    def resampled(self) -> PlaneReader:
        """Its planes on the network's grid."""
        return ResampledPlanes(self.read, self.resampling)

    def resampled_mask(self) -> PlaneReader | None:
        """The mask on the network's grid. A voxel is true if at least half of it is."""
        if self.mask is None:
            return None
        linear = replace(self.resampling, interpolation=replace(self.resampling.interpolation, order=1))
        shares = ResampledPlanes(self.mask, linear)
        return lambda start, stop: shares(start, stop) >= MASK_THRESHOLD


def _sources(volume: Volume, plan: PreprocessingPlan, record: GridRecord, device: torch.device) -> list[_Source]:
    """The channels within the record's box."""
    cropped_CZYX = cropped_view(volume.array, record)
    interpolation = Interpolation(plan.image_order, record.image_separate_axis, plan.image_order_z)
    resampling = Resampling(record.cropped_shape, record.network_shape, interpolation, device)
    masked = any(channel.use_mask for channel in plan.normalization)
    mask = partial(read_block, _nonzero_mask(cropped_CZYX), device=device) if masked else None
    return [
        _Source(partial(read_block, array, device=device), mask if channel.use_mask else None, resampling)
        for array, channel in zip(cropped_CZYX, plan.normalization, strict=True)
    ]


def _normalize_then_resample(whole: _Source, part: _Source, channel: ChannelNormalization) -> PlaneReader:
    """nnU-Net v2's order for one channel."""
    intensity = intensity_map(whole.read, whole.resampling.shape, channel, "nnunet_v2", whole.mask)
    return ResampledPlanes(normalized(part.read, intensity, part.mask), part.resampling)


def _resample_then_normalize(whole: _Source, part: _Source, channel: ChannelNormalization) -> PlaneReader:
    """nnU-Net v1's order for one channel. Statistics come from the resampled image within the resampled mask."""
    shape = whole.resampling.new_shape
    intensity = intensity_map(whole.resampled(), shape, channel, "nnunet_v1", whole.resampled_mask())
    return normalized(part.resampled(), intensity, part.resampled_mask())
