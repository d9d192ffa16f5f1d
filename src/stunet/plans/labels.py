"""What the labels of a dataset.json mean: plain integers, regions that overlap, and voxels that nobody annotated.

Regions are structures of several integers, each of which has an output of its own (nnU-Net's region-based training).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stunet.errors import FileError
from stunet.files import read_json_object

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


@dataclass(frozen=True)
class LabelTable:
    """The structures of a label map.

    Attributes:
        names: label to structure, without background. For a region the label is the one that it is painted with.
        members: label to the integers that lie in its structure, where that is not the label alone.
        ignored: the integer of voxels that count for nothing; None if there is none.
    """

    names: Mapping[int, str]
    members: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    ignored: int | None = None


def read_label_table(path: Path) -> LabelTable:
    """The structures that a dataset.json names.

    Raises:
        UserError: as `label_table`, or a file that is missing or no JSON.
    """
    content = read_json_object(path)
    try:
        return label_table(content)
    except FileError as error:
        raise FileError(f"{path}: {error}") from error


def label_table(content: Mapping[str, Any]) -> LabelTable:
    """The structures that the content of a dataset.json names.

    Raises:
        UserError: no labels, labels in nnU-Net v1's form, or regions without their order.
    """
    labels = _integers(content.get("labels"))
    ignored = labels.pop(IGNORE, (None,))[0]
    if has_regions(labels):
        regions = regions_from(labels, content.get(CLASS_ORDER))
        names = {region.label: name for name, region in regions.items()}
        return LabelTable(names, {region.label: region.members for region in regions.values()}, ignored)
    return LabelTable({values[0]: name for name, values in labels.items() if values[0] > 0}, {}, ignored)


def _integers(labels: Any) -> dict[str, tuple[int, ...]]:
    """The integers of each name."""
    if not isinstance(labels, Mapping) or not labels:
        raise FileError("there is no table of labels in it.")
    _require_names_first(labels)
    try:
        return {str(name): members_of(value) for name, value in labels.items()}
    except (TypeError, ValueError) as error:
        raise FileError(f"the labels are no integers ({error}).") from error


def _require_names_first(labels: Mapping[str, Any]) -> None:
    if all(str(name).isdigit() and isinstance(value, str) for name, value in labels.items()):
        turned = ", ".join(f'"{value}": {name}' for name, value in labels.items())
        raise FileError(
            f"the labels are in the form of nnU-Net v1, numbers first. Turn them round for version 2: {{{turned}}}."
        )


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
            f"the labels are regions ({', '.join(named)}), so {CLASS_ORDER!r} must be a list of "
            f"{len(named)} integers, one for each in this order; it is {class_order}."
        )
    if len(set(class_order)) != len(class_order):
        raise FileError(f"{CLASS_ORDER!r} gives two regions the same integer: {list(class_order)}.")
    return {
        name: Region(int(label), members) for (name, members), label in zip(named.items(), class_order, strict=True)
    }
