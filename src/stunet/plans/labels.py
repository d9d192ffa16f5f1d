"""Interpret the labels of a dataset.json: plain integers, overlapping regions, and ignored voxels.

Regions are structures of several integers, each with its own output (nnU-Net's region-based training).
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stunet.errors import FileError, listed
from stunet.files import read_json_object

CLASS_ORDER = "regions_class_order"
"""The entry of dataset.json with the integer of each region in a label map; later regions overwrite earlier ones."""

BACKGROUND = "background"
"""nnU-Net's name for the integer 0."""

IGNORE = "ignore"
"""nnU-Net's name for the integer of ignored voxels; no network outputs it."""


@dataclass(frozen=True)
class Region:
    """One region.

    Attributes:
        label: the integer of the region's voxels in a label map, unless a later region overwrites it.
        members: the integers of a label map that belong to the region.
    """

    label: int
    members: tuple[int, ...]

    def __post_init__(self) -> None:
        """Raise ValueError for integers that no label map can contain."""
        if self.label < 1 or not self.members or min(self.members) < 0:
            raise ValueError(f"a region has a label above 0 and one member or more, not {self.label}, {self.members}")


@dataclass(frozen=True)
class LabelTable:
    """The structures of a label map.

    Attributes:
        names: label to structure, without background. The label of a region is `Region.label`.
        members: label to the integers that belong to its structure, if there are others than the label.
        ignored: the integer of ignored voxels; None if there is none.
    """

    names: Mapping[int, str]
    members: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    ignored: int | None = None

    def integers_of(self, label: int) -> tuple[int, ...]:
        """The integers that belong to a structure."""
        return self.members.get(label, (label,))

    @property
    def integers(self) -> tuple[int, ...]:
        """All integers that a label map may contain, sorted: background, structures, and the ignored one."""
        of_structures = {integer for label in self.names for integer in self.integers_of(label)}
        ignored = () if self.ignored is None else (self.ignored,)
        return tuple(sorted({0, *of_structures, *ignored}))


def read_label_table(path: Path) -> LabelTable:
    """Read the structures in a dataset.json.

    Raises:
        UserError: as `label_table`, or the file is missing or not JSON.
    """
    content = read_json_object(path)
    try:
        return label_table(content)
    except FileError as error:
        raise FileError(f"{path}: {error}") from error


def label_table(content: Mapping[str, Any]) -> LabelTable:
    """The structures in the content of a dataset.json.

    Raises:
        UserError: there are no labels, they have nnU-Net v1's form, or the order of regions is missing.
    """
    labels = integers_by_name(content.get("labels"))
    ignored = labels.pop(IGNORE, (None,))[0]
    if has_regions(labels):
        regions = regions_from(labels, content.get(CLASS_ORDER))
        names = {region.label: name for name, region in regions.items()}
        return LabelTable(names, {region.label: region.members for region in regions.values()}, ignored)
    return LabelTable({values[0]: name for name, values in labels.items() if values[0] > 0}, {}, ignored)


def integers_by_name(labels: Any) -> dict[str, tuple[int, ...]]:
    """The integers of each of dataset.json's labels.

    Raises:
        UserError: there are no labels, they have nnU-Net v1's form, or a label is not an integer of 0 or more.
    """
    if not isinstance(labels, Mapping) or not labels:
        raise FileError("it has no table of labels.")
    if are_numbers_first(labels):
        raise FileError(
            "the labels have the form of nnU-Net v1, numbers first. Write them in the form of version 2: "
            f"{json.dumps(turned_round(labels))}."
        )
    try:
        integers = {str(name): members_of(value) for name, value in labels.items()}
    except (TypeError, ValueError) as error:
        raise FileError(f"the labels are not integers ({error}).") from error
    wrong = [name for name, values in integers.items() if not values or min(values) < 0]
    if wrong:
        raise FileError(f"each label has an integer from 0; {listed(wrong)} has none or a negative one.")
    return integers


def are_numbers_first(labels: Any) -> bool:
    """Whether labels have the form of nnU-Net v1 and the Decathlon: {"1": "liver"}."""
    return (
        isinstance(labels, Mapping)
        and bool(labels)
        and all(str(key).isdigit() and isinstance(value, str) for key, value in labels.items())
    )


def turned_round(labels: Mapping[str, str]) -> dict[str, int]:
    """Convert labels of version 1 to the form of version 2.

    >>> turned_round({"0": "background", "1": "liver"})
    {'background': 0, 'liver': 1}
    """
    return {name: int(number) for number, name in labels.items()}


def label_problems(content: Mapping[str, Any]) -> tuple[str, ...]:
    """The reasons why no model can be trained and used with the labels of a dataset.json, one sentence each.

    nnU-Net refuses most of these labels. It trains with two labels of the same integer, but no model can output both.

    Args:
        content: content of a dataset.json that `label_table` accepts.
    """
    table = label_table(content)
    return (*_numbering_problems(table, content["labels"]), *_naming_problems(table, content["labels"]))


def _numbering_problems(table: LabelTable, labels: Mapping[str, Any]) -> Iterator[str]:
    if table.integers != tuple(range(len(table.integers))):
        yield f"the labels should count from 0 without a gap, not {list(table.integers)}."
    if table.ignored is not None and (table.ignored != table.integers[-1] or labels[IGNORE] != table.ignored):
        yield f"{IGNORE!r} should be one integer, and the highest of all labels."


def _naming_problems(table: LabelTable, labels: Mapping[str, Any]) -> Iterator[str]:
    if labels.get(BACKGROUND) not in (0, "0"):
        yield f"label 0 should be called {BACKGROUND}."
    if table.members:
        quoted = [name for name, value in labels.items() if _holds_text(value)]
        if quoted:
            yield f"the integers of regions are written without quotes; those of {listed(quoted)} have quotes."
        return
    integers = Counter(values[0] for values in integers_by_name(labels).values())
    doubled = [name for name, values in integers_by_name(labels).items() if integers[values[0]] > 1]
    if doubled:
        yield f"each label needs an integer of its own, but {listed(doubled)} share one."


def _holds_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and any(isinstance(one, str) for one in value))


def members_of(value: Any) -> tuple[int, ...]:
    """The integers of one entry of dataset.json's labels: 2, [2] or [1, 2].

    >>> members_of(2), members_of([1, 2])
    ((2,), (1, 2))
    """
    try:
        return tuple(int(one) for one in value) if isinstance(value, list | tuple) else (int(value),)
    except OverflowError as error:
        raise ValueError("a label is infinite") from error


def has_regions(labels: Mapping[str, Any]) -> bool:
    """Whether one of dataset.json's labels has several integers."""
    return any(len(members_of(value)) > 1 for name, value in labels.items() if name != IGNORE)


def regions_from(labels: Mapping[str, Any], class_order: Sequence[int] | None) -> dict[str, Region]:
    """The regions by name, in the order of a network's outputs, without background.

    Args:
        labels: dataset.json's `labels`.
        class_order: its `regions_class_order`.

    Raises:
        UserError: the order is missing, has another length, or gives two regions the same integer.
    """
    named = {name: members_of(value) for name, value in labels.items() if name != IGNORE}
    named = {name: members for name, members in named.items() if set(members) != {0}}
    if not isinstance(class_order, list | tuple) or len(class_order) != len(named):
        raise FileError(
            f"the labels are regions ({', '.join(named)}), so {CLASS_ORDER!r} must be a list of "
            f"{len(named)} integers, one for each in this order; it is {class_order}."
        )
    if len(set(class_order)) != len(class_order):
        raise FileError(f"{CLASS_ORDER!r} gives two regions the same integer: {list(class_order)}.")
    try:
        return {name: Region(int(n), members) for (name, members), n in zip(named.items(), class_order, strict=True)}
    except (TypeError, ValueError, OverflowError) as error:
        raise FileError(f"{CLASS_ORDER!r} should contain integers above 0, not {list(class_order)}.") from error
