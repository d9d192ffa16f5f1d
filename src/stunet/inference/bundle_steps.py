"""Two steps of a MONAI bundle for which MONAI has no component: nnU-Net's grid, and where its windows stand.

stunet copies this file into the bundles that it exports, as scripts/stunet_steps.py. It needs MONAI and scipy, and not
stunet. Arrays are MONAI's: (C, X, Y, Z).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import product
from math import ceil
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor, affine_to_spacing
from monai.inferers import Inferer
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import convert_to_dst_type
from scipy.ndimage import zoom
from torch.nn import functional


def thick_axis(grids: Sequence[Sequence[float]], force: bool | None, threshold: float) -> int | None:
    """The axis with the thick slices, which is interpolated on its own; None if there is none, or two share it.

    Args:
        grids: spacings in mm, in the order in which they are looked at.
        force: True for always (by the first grid), False for never, None by the threshold.
        threshold: ratio of the largest to the smallest spacing.
    """
    for spacing in [] if force is False else grids[: 1 if force else None]:
        if force or max(spacing) / min(spacing) > threshold:
            thick = [axis for axis, size in enumerate(spacing) if size == max(spacing)]
            return thick[0] if len(thick) == 1 else None
    return None


class NetworkGridd(MapTransform, InvertibleTransform):
    """Resample to the network's grid over the same extent, and back, as nnU-Net does.

    The way there is by splines, clipped to the range of the values. The way back, for logits, is linear.

    Args:
        keys: of images (C, X, Y, Z).
        spacing: of the network's grid (X, Y, Z), in mm.
        order: of the splines.
        thick_order: of the splines along thick slices; 0 is nearest.
        force: see `thick_axis`.
        threshold: see `thick_axis`.
        network_first: for the way back, look at the network's grid before the scan's.
    """

    def __init__(
        self,
        keys: Sequence[str],
        spacing: Sequence[float],
        order: int = 3,
        thick_order: int = 0,
        force: bool | None = None,
        threshold: float = 3.0,
        network_first: bool = True,
    ):
        super().__init__(keys)
        self.spacing, self.order, self.thick_order = spacing, order, thick_order
        self.force, self.threshold, self.network_first = force, threshold, network_first

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """From the scan's grid to the network's."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            scan = [float(mm) for mm in affine_to_spacing(image.affine)]
            size = [
                max(round(old / new * n), 1) for old, new, n in zip(scan, self.spacing, image.shape[1:], strict=True)
            ]
            axis = thick_axis([scan, self.spacing], self.force, self.threshold)
            array = np.stack([self._by_splines(one, size, axis) for one in image.cpu().numpy()])
            moved = MetaTensor(torch.from_numpy(array), meta=image.meta, applied_operations=image.applied_operations)
            moved.affine = image.affine @ _scaling(image.shape[1:], size)
            grids = [self.spacing, scan] if self.network_first else [scan, self.spacing]
            back = thick_axis(grids, self.force, self.threshold)
            self.push_transform(
                moved, orig_size=tuple(image.shape[1:]), extra_info={"thick": back, "affine": image.affine}
            )
            result[key] = moved
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """From the network's grid to the scan's."""
        result = dict(data)
        for key in self.key_iterator(result):
            transform = self.pop_transform(result[key])
            size, thick = list(transform["orig_size"]), transform["extra_info"]["thick"]
            logits = result[key].as_tensor()
            across = [
                old if axis == thick else new
                for axis, (old, new) in enumerate(zip(logits.shape[1:], size, strict=True))
            ]
            back = functional.interpolate(logits[None], across, mode="trilinear", align_corners=False)[0]
            if thick is not None:
                back = back.index_select(
                    thick + 1, torch.from_numpy(_nearest(logits.shape[thick + 1], size[thick])).to(logits.device)
                )
            result[key] = MetaTensor(back, meta=result[key].meta, applied_operations=result[key].applied_operations)
            result[key].affine = transform["extra_info"]["affine"]
        return result

    def _by_splines(self, image: np.ndarray, size: Sequence[int], thick: int | None) -> np.ndarray:
        """One channel (X, Y, Z); thick slices one by one, and then along them."""
        if thick is None:
            return _zoomed(image, size, self.order)
        across = [new for axis, new in enumerate(size) if axis != thick]
        planes = [_zoomed(plane, across, self.order) for plane in np.moveaxis(image, thick, 0)]
        stacked = np.stack(planes, axis=thick)
        if self.thick_order == 0:
            return stacked.take(_nearest(image.shape[thick], size[thick]), axis=thick)
        return _zoomed(stacked, size, self.thick_order)


def _zoomed(image: np.ndarray, size: Sequence[int], order: int) -> np.ndarray:
    """An image over the same extent in another size."""
    if image.shape == tuple(size):
        return image
    factors = [new / old for old, new in zip(image.shape, size, strict=True)]
    result = zoom(image.astype(np.float64), factors, order=order, mode="nearest", grid_mode=True)
    return result.clip(image.min(), image.max()).astype(np.float32)


def _nearest(old: int, new: int) -> np.ndarray:
    """For each of `new` voxels the nearest of `old` over the same extent; of two the upper."""
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    return np.floor(centres + 0.5).astype(np.int64).clip(0, old - 1)


def _scaling(old: Sequence[int], new: Sequence[int]) -> torch.Tensor:
    """(4, 4), from voxels of one grid to those of another over the same extent."""
    factors = torch.tensor([a / b for a, b in zip(old, new, strict=True)], dtype=torch.float64)
    matrix = torch.diag(torch.cat([factors, torch.ones(1, dtype=torch.float64)]))
    matrix[:3, 3] = (factors - 1) / 2
    return matrix


class EvenWindowInferer(Inferer):
    """A sliding window whose places are even from edge to edge, weighted by a Gaussian, as nnU-Net has it.

    Args:
        roi_size: of the window (X, Y, Z).
        step: largest distance of neighbours, as a fraction of the window.
    """

    def __init__(self, roi_size: Sequence[int], step: float = 0.5):
        self.roi_size, self.step = tuple(roi_size), step
        self.weight = _gaussian_weight(roi_size)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Images (B, C, X, Y, Z) to logits (B, K, X, Y, Z)."""
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        size, window = image.shape[2:], self.roi_size
        missing = [max(w - n, 0) for w, n in zip(window, size, strict=True)]
        before = [n // 2 for n in missing]
        image = functional.pad(image, [n for a, b in zip(before[::-1], missing[::-1], strict=True) for n in (a, b - a)])
        weight = self.weight.to(image.device)
        weights = torch.zeros(image.shape[2:], device=image.device)
        total = None
        for start in product(*(_starts(n, w, self.step) for n, w in zip(image.shape[2:], window, strict=True))):
            logits = network(_part(image, start, window), *args, **kwargs).float()
            total = logits.new_zeros(*logits.shape[:2], *image.shape[2:]) if total is None else total
            _part(total, start, window).add_(logits * weight)
            _part(weights, start, window).add_(weight)
        assert total is not None  # there is at least one window
        return convert_to_dst_type(_part(total / weights, before, size), inputs)[0]


def _part(array: torch.Tensor, start: Sequence[int], size: Sequence[int]) -> torch.Tensor:
    """A view of the last three axes."""
    for axis, (first, length) in enumerate(zip(start, size, strict=True), -3):
        array = array.narrow(axis, first, length)
    return array


def _starts(size: int, window: int, step: float) -> list[int]:
    """The first voxels of the windows along an axis."""
    intervals = ceil((size - window) / (window * step))
    return [round((size - window) / intervals * index) for index in range(intervals + 1)] if intervals else [0]


def _gaussian_weight(roi_size: Sequence[int]) -> torch.Tensor:
    """10 in the middle; in half precision, in which nnU-Net keeps it, and above zero everywhere."""
    squares = [((torch.arange(n) - n // 2) / (n / 8)).double() ** 2 for n in roi_size]
    x, y, z = torch.meshgrid(*squares, indexing="ij")
    weight = (10 * torch.exp(-(x + y + z) / 2)).half().float()
    weight[weight == 0] = weight[weight > 0].min()
    return weight
