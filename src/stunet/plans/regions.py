"""Regions: structures that overlap, each of which has an output of its own (nnU-Net's region-based training)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stunet.errors import FileError

CLASS_ORDER = "regions_class_order"
"""The entry of dataset.json that says which integer each region is painted with, the later over the earlier."""

IGNORE = "ignore"
"""nnU-Net's name for the integer whose voxels count for nothing; no network answers with it."""


@dataclass(frozen=True)
class Region:
    """One region.

    Attributes:
        label: the integer that the region's voxels get in a label map, unless a later region claims them.
        members: the integers of a label map whose voxels lie in the region.
    """

    label: int
    members: tuple[int, ...]

    def __post_init__(self) -> None:
        """Raises ValueError for integers that no label map holds."""
        if self.label < 1 or not self.members or min(self.members) < 0:
            raise ValueError(f"a region has a label above 0 and one member or more, not {self.label}, {self.members}")


def members_of(value: Any) -> tuple[int, ...]:
    """The integers of one entry of dataset.json's labels: 2, [2] or [1, 2].

    >>> members_of(2), members_of([1, 2])
    ((2,), (1, 2))
    """
    return tuple(int(one) for one in value) if isinstance(value, list | tuple) else (int(value),)


def has_regions(labels: Mapping[str, Any]) -> bool:
    """Whether one of dataset.json's labels holds several integers."""
    return any(len(members_of(value)) > 1 for name, value in labels.items() if name != IGNORE)


def regions_from(labels: Mapping[str, Any], class_order: Sequence[int] | None) -> dict[str, Region]:
    """The regions by name, in the order of a network's outputs. Background is none.

    Args:
        labels: dataset.json's `labels`.
        class_order: its `regions_class_order`.

    Raises:
        UserError: no order, one of another length, or one that paints two regions alike.
    """
    named = {name: members_of(value) for name, value in labels.items() if name != IGNORE}
    named = {name: members for name, members in named.items() if set(members) != {0}}
    if class_order is None or len(class_order) != len(named):
        raise FileError(
            f"The labels in dataset.json are regions ({', '.join(named)}), so {CLASS_ORDER!r} must be a list of "
            f"{len(named)} integers, one for each in this order; it is {class_order}."
        )
    if len(set(class_order)) != len(class_order):
        raise FileError(f"{CLASS_ORDER!r} in dataset.json gives two regions the same integer: {list(class_order)}.")
    return {
        name: Region(int(label), members) for (name, members), label in zip(named.items(), class_order, strict=True)
    }
