"""From features on the network's grid to labels on the scan's, as if every logit had been interpolated there.

nnU-Net interpolates the logits of all classes to the scan's grid, linearly (order 1; order 0, nearest, along the thick
axis of thick slices), and takes the class with the highest. The same labels come out of far less work:

**Where the corners agree, their label is the answer.** An interpolated logit at x is a convex combination of the same
logit at the up to 8 corners c of the cell around x: l_k(x) = sum_c w_c l_k(c), w_c > 0, sum_c w_c = 1 (corners with
weight 0 are no corners of x). Let a be the label of all of them, that is, the first class with the highest logit:
l_a(c) >= l_k(c) for every k, and l_a(c) > l_k(c) for k < a. Multiplied by w_c > 0 and summed over the corners,
l_a(x) >= l_k(x) for every k, and l_a(x) > l_k(x) for k < a, as each summand is greater. So a is the first class with
the highest logit at x too, ties included. (In floating point the full interpolation may round a tie otherwise; this
does not.)

**Elsewhere, features are interpolated instead of logits.** The head is affine and the weights sum to 1, so the head of
the interpolated features is the interpolated logits.

Planes come in one after the other, and each slice of the scan goes out as soon as the planes around it are there.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from stunet.imaging.resample import linear_taps, nearest_taps
from stunet.inference.head import LinearHead

MIXED = -1
"""Stands for the label of a voxel whose corners disagree."""


@dataclass(frozen=True, eq=False)
class Taps:
    """Interpolation along one axis: output i = (1 - weight[i]) * input[lower[i]] + weight[i] * input[upper[i]].

    Attributes:
        lower, upper: int64 (n_out,); equal where the weight is 0, else neighbours.
        weight: float32 (n_out,), of `upper`; 0 or more and below 1.
    """

    lower: torch.Tensor
    upper: torch.Tensor
    weight: torch.Tensor

    def to(self, device: torch.device) -> "Taps":
        """The same on a device."""
        return Taps(self.lower.to(device), self.upper.to(device), self.weight.to(device))


def axis_taps(n_in: int, n_out: int, order: int) -> Taps:
    """Interpolation from n_in to n_out samples over the same extent.

    Args:
        n_in, n_out: samples before and after.
        order: 0 (nearest) or 1 (linear).

    Raises:
        ValueError: another order.
    """
    if order == 0:
        nearest = torch.from_numpy(nearest_taps(n_in, n_out))
        return Taps(nearest, nearest, torch.zeros(n_out))
    if order == 1:
        lower, upper, weight = linear_taps(n_in, n_out)
        return Taps(*(torch.from_numpy(array) for array in (lower, np.where(weight == 0, lower, upper), weight)))
    raise ValueError(f"labels are found for interpolation of order 0 or 1, not {order}")


def label_slices(
    planes_YXF: Iterable[torch.Tensor],
    head: LinearHead,
    network_shape: Sequence[int],
    output_shape: Sequence[int],
    orders: Sequence[int],
    asked: Collection[int] | None = None,
) -> Iterator[torch.Tensor]:
    """Labels on another grid over the same extent, slice by slice along Z, while the planes arrive.

    Two planes of features are in memory at a time, and `head.CHUNK_BYTES` of logits.

    Args:
        planes_YXF: features (Y, X, F) of the network's planes, first to last, float32, on the head's device.
        head: from features to logits.
        network_shape: (Z, Y, X) of the network's grid.
        output_shape: (Z, Y, X) of the other grid.
        orders: of interpolation, 0 or 1, for each axis.
        asked: classes of interest; any other becomes 0. None for all.

    Yields:
        int16 (Y, X) labels of output slice 0, 1, ...

    Raises:
        ValueError: another order, or fewer planes than the network's grid has.
    """
    along_z, *taps = (axis_taps(*sizes) for sizes in zip(network_shape, output_shape, orders, strict=True))
    rows, columns = (axis.to(head.bias.device) for axis in taps)
    lowers, uppers, weights = along_z.lower.tolist(), along_z.upper.tolist(), along_z.weight.tolist()
    arrived = _numbered_pairs(_Plane(features_YXF, head, rows, columns) for features_YXF in planes_YXF)
    chooser = _Chooser(head) if asked is None else _AskedChooser(head, asked)
    number, previous, current = next(arrived)
    for lower, upper, weight in zip(lowers, uppers, weights, strict=True):
        while number < upper:
            number, previous, current = next(arrived)
        yield _label_slice(current if lower == number else previous, current, weight, chooser)


def _numbered_pairs(planes: Iterable["_Plane"]) -> Iterator[tuple[int, "_Plane", "_Plane"]]:
    """Each plane's number, the plane before it (for the first: itself), and the plane."""
    previous = None
    for number, plane in enumerate(planes):
        yield number, previous or plane, plane
        previous = plane
    raise ValueError("there are fewer planes than the network's grid has")


class _Plane:
    """A plane of the network's grid; what is asked of it is worked out once, and only if it is asked for."""

    def __init__(self, features_YXF: torch.Tensor, head: LinearHead, rows: Taps, columns: Taps):
        self.features = features_YXF
        self.head, self.rows, self.columns = head, rows, columns

    @cached_property
    def own_labels(self) -> torch.Tensor:
        """The labels (Y, X) of the network's voxels."""
        return self.head.labels(self.features.flatten(0, 1)).view(self.features.shape[:2])

    @cached_property
    def labels(self) -> torch.Tensor:
        """For each output voxel (Y, X) the label of its up to 4 corners in this plane, or `MIXED`."""
        labels = _agreed(self.own_labels[:, self.columns.lower], self.own_labels[:, self.columns.upper])
        return _agreed(labels[self.rows.lower], labels[self.rows.upper])


def _agreed(labels: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """The label where both are the same, else `MIXED`."""
    return torch.where(labels == others, labels, MIXED)


class _Chooser:
    """Chooses among all classes."""

    def __init__(self, head: LinearHead):
        self.head = head

    def among(self, lower: _Plane, upper: _Plane) -> Callable[[torch.Tensor], torch.Tensor]:
        """What labels lists of features (M, F) that lie between two planes."""
        return self.head.labels

    def kept(self, labels: torch.Tensor) -> torch.Tensor:
        """The labels that are of interest; any other becomes 0."""
        return labels


class _AskedChooser(_Chooser):
    """Chooses among all classes, and tells only those that are asked for.

    Between voxels of two other classes an asked one may be the highest, so they are looked at as well, but first among
    few: where the highest of the asked classes and those of the planes' voxels is not asked for, the highest of all is
    not, either, for it is at least as high.
    """

    def __init__(self, head: LinearHead, asked: Collection[int]):
        super().__init__(head)
        self._is_asked = torch.zeros(head.num_classes, dtype=torch.bool, device=head.bias.device)
        self._is_asked[list(asked)] = True

    def among(self, lower: _Plane, upper: _Plane) -> Callable[[torch.Tensor], torch.Tensor]:
        """What labels lists of features (M, F) that lie between two planes; 0 for classes that are not asked for."""
        is_candidate = self._is_asked.clone()
        for plane in (lower, upper):
            is_candidate[plane.own_labels.flatten().long()] = True
        few = LinearHead(self.head.weight[is_candidate], self.head.bias[is_candidate])
        is_asked = self._is_asked[is_candidate]

        def choose(features_MF: torch.Tensor) -> torch.Tensor:
            """Among few first, and among all where that finds one that is asked for."""
            labels = torch.zeros(len(features_MF), dtype=torch.int16, device=features_MF.device)
            possible = is_asked[few.labels(features_MF).long()]
            labels[possible] = self.kept(self.head.labels(features_MF[possible]))
            return labels

        return choose

    def kept(self, labels: torch.Tensor) -> torch.Tensor:
        """The labels that are asked for; any other becomes 0."""
        return torch.where(self._is_asked[labels.clamp(min=0).long()], labels, 0)


def _label_slice(lower: _Plane, upper: _Plane, weight: float, chooser: _Chooser) -> torch.Tensor:
    """Labels (Y, X) of the output slice that lies `weight` of the way from one plane to the next."""
    if weight == 0:
        upper = lower
    agreed = _agreed(lower.labels, upper.labels)
    labels = chooser.kept(agreed)
    mixed_rows, mixed_columns = torch.nonzero(agreed == MIXED, as_tuple=True)
    if len(mixed_rows):
        choose, chunk = chooser.among(lower, upper), lower.head.chunk
        features_YXF = lower.features if weight == 0 else lower.features.lerp(upper.features, weight)
        for rows, columns in zip(mixed_rows.split(chunk), mixed_columns.split(chunk), strict=True):
            labels[rows, columns] = choose(_interpolated(features_YXF, lower, rows, columns))
    return labels


def _interpolated(features_YXF: torch.Tensor, plane: _Plane, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Features (M, F) at output voxels, given by their rows and columns, from those of a plane."""
    y0, y1, y = plane.rows.lower[rows], plane.rows.upper[rows], plane.rows.weight[rows, None]
    x0, x1, x = plane.columns.lower[columns], plane.columns.upper[columns], plane.columns.weight[columns, None]
    front = features_YXF[y0, x0].lerp_(features_YXF[y0, x1], x)
    back = features_YXF[y1, x0].lerp_(features_YXF[y1, x1], x)
    return front.lerp_(back, y)
