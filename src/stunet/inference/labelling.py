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

**The same holds for regions**, where the label is that of the last region with a logit above 0 (`head.RegionHead`). If
the corners agree, one region is above 0 at all of them and every later one at none: l(c) > 0 for all c gives l(x) > 0,
and l(c) <= 0 for all c gives l(x) <= 0. So the label at x is the same, whatever the earlier regions do; likewise where
no region is above 0. (Probabilities are compared with one half in float32, where logits of up to 6e-8 count as 0, at
corners and between them alike.)

**Elsewhere, features are interpolated instead of logits.** The head is affine and the weights sum to 1, so the head of
the interpolated features is the interpolated logits.

Planes come in one after the other, and each slice of the scan goes out as soon as the planes around it are there.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from stunet.inference.head import LinearHead
from stunet.inference.interpolation import Taps, axis_taps, interpolated, taps_between

MIXED = -1
"""Stands for the label of a voxel whose corners disagree."""


def output_slices(
    planes_YXF: Iterable[torch.Tensor],
    head: LinearHead,
    network_shape: Sequence[int],
    output_shape: Sequence[int],
    orders: Sequence[int],
) -> Iterator["OutputSlice"]:
    """The slices of another grid over the same extent, first to last along Z, while the planes arrive.

    Args:
        planes_YXF: features (Y, X, F) of the network's planes, first to last, float32, on the head's device.
        head: from features to logits.
        network_shape: (Z, Y, X) of the network's grid.
        output_shape: (Z, Y, X) of the other grid.
        orders: of interpolation, 0 or 1, for each axis.

    Raises:
        ValueError: another order, or fewer planes than the network's grid has.
    """
    along_z, *taps = (axis_taps(*sizes) for sizes in zip(network_shape, output_shape, orders, strict=True))
    rows, columns = (axis.to(head.bias.device) for axis in taps)
    planes = (Plane(features_YXF, head, rows, columns) for features_YXF in planes_YXF)
    for lower, upper, weight in taps_between(planes, along_z):
        yield OutputSlice(lower, upper, weight)


class Plane:
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


@dataclass(frozen=True, eq=False)
class OutputSlice:
    """A slice of the scan's grid between two planes of the network's.

    Attributes:
        lower, upper: the planes; one and the same where the slice lies in it.
        weight: how far from the lower to the upper it lies, 0 or more and below 1.
    """

    lower: Plane
    upper: Plane
    weight: float

    @property
    def shape(self) -> tuple[int, int]:
        """(Y, X)."""
        return len(self.lower.rows.weight), len(self.lower.columns.weight)

    @cached_property
    def features(self) -> torch.Tensor:
        """The features (Y, X, F) at the rows and columns of the network's grid."""
        return self.lower.features if self.weight == 0 else self.lower.features.lerp(self.upper.features, self.weight)

    def features_at(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """The features (M, F) at voxels of the slice."""
        return interpolated(self.features, self.lower.rows, self.lower.columns, rows, columns)

    def labels(self, chooser: "Chooser") -> torch.Tensor:
        """Labels (Y, X), int16."""
        agreed = _agreed(self.lower.labels, self.upper.labels)
        labels = chooser.kept(agreed)
        mixed_rows, mixed_columns = torch.nonzero(agreed == MIXED, as_tuple=True)
        if len(mixed_rows):
            choose, chunk = chooser.among(self.lower, self.upper), self.lower.head.chunk
            for rows, columns in zip(mixed_rows.split(chunk), mixed_columns.split(chunk), strict=True):
                labels[rows, columns] = choose(self.features_at(rows, columns))
        return labels


def _agreed(labels: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """The label where both are the same, else `MIXED`."""
    return torch.where(labels == others, labels, MIXED)


class Chooser:
    """Chooses among all classes."""

    def __init__(self, head: LinearHead):
        self.head = head

    def among(self, lower: Plane, upper: Plane) -> Callable[[torch.Tensor], torch.Tensor]:
        """What labels lists of features (M, F) that lie between two planes."""
        return self.head.labels

    def kept(self, labels: torch.Tensor) -> torch.Tensor:
        """The labels that are of interest; any other becomes 0."""
        return labels


class AskedChooser(Chooser):
    """Chooses among all classes, and tells only those that are asked for.

    Between voxels of two other classes an asked one may be the highest, so they are looked at as well, but first among
    few: where the highest of the asked classes and those of the planes' voxels is not asked for, the highest of all is
    not, either, for it is at least as high.
    """

    def __init__(self, head: LinearHead, asked: Collection[int]):
        super().__init__(head)
        self._is_asked = torch.zeros(head.num_classes, dtype=torch.bool, device=head.bias.device)
        self._is_asked[list(asked)] = True

    def among(self, lower: Plane, upper: Plane) -> Callable[[torch.Tensor], torch.Tensor]:
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
