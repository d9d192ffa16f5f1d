"""From features on the network's grid to labels on the scan's grid, as if all logits were interpolated there.

nnU-Net interpolates the logits of all classes to the scan's grid, linearly (order 1; order 0, nearest, along the thick
axis of thick slices), and takes the class with the highest logit. This file gets the same labels with far less work:

**Where the corners agree, their label is the answer.** An interpolated logit at x is a convex combination of the same
logit at the up to 8 corners c of the cell around x: l_k(x) = sum_c w_c l_k(c), w_c > 0, sum_c w_c = 1 (corners with
weight 0 are not counted). Let a be the label of all of them, that is, the first class with the highest logit: l_a(c) >=
l_k(c) for every k, and l_a(c) > l_k(c) for k < a. Multiplied by w_c > 0 and summed over the corners, l_a(x) >= l_k(x)
for every k, and l_a(x) > l_k(x) for k < a, as each summand is greater. So a is also the first class with the highest
logit at x, including ties. (In floating point, the full interpolation may break ties differently; this method does
not.)

**The same holds for regions**, where the label is that of the last region with a logit above 0 (`head.RegionHead`). If
the corners agree, one region is above 0 at all of them and no later region at any: l(c) > 0 for all c gives l(x) > 0,
and l(c) <= 0 for all c gives l(x) <= 0. So the label at x is the same, regardless of earlier regions; likewise if no
region is above 0. (Probabilities are compared with one half in float32, where logits of up to 6e-8 count as 0, both at
corners and between them.)

**Elsewhere, features are interpolated instead of logits.** The head is affine and the weights sum to 1, so applying the
head to interpolated features gives the interpolated logits.

Planes arrive one after the other, and each slice of the scan is returned as soon as the planes around it are known.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from stunet.inference.head import LinearHead
from stunet.inference.interpolation import Taps, axis_taps, interpolated, taps_between
from stunet.inference.steady_labels import SteadyLabels

MIXED = -1
"""Marks voxels whose corners disagree; not a label."""


def output_slices(
    planes_YXF: Iterable[torch.Tensor],
    head: LinearHead,
    network_shape: Sequence[int],
    output_shape: Sequence[int],
    orders: Sequence[int],
) -> Iterator["OutputSlice"]:
    """Yield the slices of another grid over the same extent, first to last along Z, as the planes arrive.

    Args:
        planes_YXF: features (Y, X, F) of the network's planes, first to last, float32, on the head's device.
        head: maps features to logits.
        network_shape: shape (Z, Y, X) of the network's grid.
        output_shape: shape (Z, Y, X) of the other grid.
        orders: order of interpolation, 0 or 1, for each axis.

    Raises:
        ValueError: an order is not 0 or 1, or there are fewer planes than in the network's grid.
    """
    along_z, *taps = (axis_taps(*sizes) for sizes in zip(network_shape, output_shape, orders, strict=True))
    rows, columns = (axis.to(head.bias.device) for axis in taps)
    steady = SteadyLabels(head)
    planes = (Plane(features_YXF, steady) for features_YXF in planes_YXF)
    for lower, upper, weight in taps_between(planes, along_z):
        yield OutputSlice(lower, upper, weight, rows, columns, head)


class Plane:
    """A plane of the network's grid."""

    def __init__(self, features_YXF: torch.Tensor, steady: SteadyLabels):
        self.features = features_YXF
        self._steady = steady

    @cached_property
    def labels(self) -> torch.Tensor:
        """The labels (Y, X) of its voxels; computed once, on demand."""
        return self._steady.labels(self.features)


@dataclass(frozen=True, eq=False)
class OutputSlice:
    """A slice of the scan's grid between two planes of the network's grid.

    Attributes:
        lower, upper: the planes; the same if the slice is in that plane.
        weight: relative position between lower and upper, 0 or more and below 1.
        rows, columns: where the slice's rows and columns lie in the planes.
        head: maps features to logits.
    """

    lower: Plane
    upper: Plane
    weight: float
    rows: Taps
    columns: Taps
    head: LinearHead

    @property
    def shape(self) -> tuple[int, int]:
        """(Y, X)."""
        return len(self.rows.weight), len(self.columns.weight)

    @cached_property
    def features(self) -> torch.Tensor:
        """The features (Y, X, F) of this slice at the network grid's rows and columns."""
        return self.lower.features if self.weight == 0 else self.lower.features.lerp(self.upper.features, self.weight)

    def features_at(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """The features (M, F) at voxels of the slice."""
        return interpolated(self.features, self.rows, self.columns, rows, columns)

    @property
    def common_labels(self) -> torch.Tensor:
        """The common label (Y, X) of each voxel's corners in the planes, or `MIXED`."""
        labels = self.lower.labels if self.weight == 0 else _agreed(self.lower.labels, self.upper.labels)
        return _between(_between(labels, self.columns, dim=1), self.rows, dim=0)

    def labels(self, chooser: "Chooser") -> torch.Tensor:
        """Labels (Y, X), int16."""
        common = self.common_labels
        labels = chooser.kept(common)
        mixed_rows, mixed_columns = torch.nonzero(common == MIXED, as_tuple=True)
        if len(mixed_rows):
            choose, chunk = chooser.among(self.lower, self.upper), self.head.chunk
            for rows, columns in zip(mixed_rows.split(chunk), mixed_columns.split(chunk), strict=True):
                labels[rows, columns] = choose(self.features_at(rows, columns))
        return labels


def _between(labels: torch.Tensor, taps: Taps, dim: int) -> torch.Tensor:
    """For each output along an axis, the common label of its neighbours, or `MIXED`."""
    count = labels.shape[dim]
    of_pairs = _agreed(labels.narrow(dim, 0, count - 1), labels.narrow(dim, 1, count - 1))
    index = torch.where(taps.weight == 0, taps.lower, count + taps.lower)
    return torch.cat([labels, of_pairs], dim).index_select(dim, index)


def _agreed(labels: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """The label where both are the same, otherwise `MIXED`."""
    return torch.where(labels == others, labels, MIXED)


class Chooser:
    """Chooses among all classes."""

    def __init__(self, head: LinearHead):
        self.head = head

    def among(self, lower: Plane, upper: Plane) -> Callable[[torch.Tensor], torch.Tensor]:
        """A function that labels features (M, F) between two planes."""
        return self.head.labels

    def kept(self, labels: torch.Tensor) -> torch.Tensor:
        """Keep the requested labels; all others become 0."""
        return labels


class AskedChooser(Chooser):
    """Chooses among all classes, and returns only the requested ones.

    Between voxels of two other classes, a requested class may have the highest logit, so these voxels are checked, too.
    To save time, the first comparison is only among the requested classes and those of the planes' voxels: if none of
    the requested wins there, none can win among all classes.
    """

    def __init__(self, head: LinearHead, asked: Collection[int]):
        super().__init__(head)
        self._is_asked = torch.zeros(head.num_classes, dtype=torch.bool, device=head.bias.device)
        self._is_asked[list(asked)] = True

    def among(self, lower: Plane, upper: Plane) -> Callable[[torch.Tensor], torch.Tensor]:
        """A function that labels features (M, F) between two planes; 0 for classes that are not requested."""
        is_candidate = self._is_asked.clone()
        for plane in (lower, upper):
            is_candidate[plane.labels.flatten().long()] = True
        few = LinearHead(self.head.weight[is_candidate], self.head.bias[is_candidate])
        is_asked = self._is_asked[is_candidate]

        def choose(features_MF: torch.Tensor) -> torch.Tensor:
            """Compare few classes first, and all classes if a requested one wins."""
            labels = torch.zeros(len(features_MF), dtype=torch.int16, device=features_MF.device)
            possible = is_asked[few.labels(features_MF).long()]
            labels[possible] = self.kept(self.head.labels(features_MF[possible]))
            return labels

        return choose

    def kept(self, labels: torch.Tensor) -> torch.Tensor:
        """Keep the requested labels; all others become 0."""
        return torch.where(self._is_asked[labels.clamp(min=0).long()], labels, 0)
