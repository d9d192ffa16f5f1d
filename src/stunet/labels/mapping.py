"""Map the labels of other datasets to the 104 structures, so that a model can be scored on these datasets.

This is the paper's direct inference (section 4.2.1, appendix A, Table 9): a dataset's labels and a model's classes are
both merged into *targets*, which are then compared. For example, `kidney_left` and `kidney_right` become "kidney". The
mappings are data files, one per dataset, in the folder `datasets` next to this file.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from stunet.errors import FileError, UnknownNameError
from stunet.labels.ontology import LABELS, TOTALSEGMENTATOR_V1_LABELS, TOTALSEGMENTATOR_V2_LABELS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NUMBERINGS: dict[str, tuple[str, ...]] = {
    "stunet": LABELS,
    "totalsegmentator-v1": TOTALSEGMENTATOR_V1_LABELS,
    "totalsegmentator-v2": TOTALSEGMENTATOR_V2_LABELS,
}
"""Class names by integer, for predictions in a known numbering."""

OWN_NUMBERING = "dataset"
"""The numbering of predictions with a dataset's own labels, for example from an nnU-Net trained on it."""

SUFFIX = ".toml"

_FOLDER = Path(__file__).with_name("datasets")

_UNKNOWN = 255
"""Marks labels without an entry in a lookup table."""

MAX_TARGETS = _UNKNOWN - 1


@dataclass(frozen=True)
class Target:
    """A unit of scoring.

    Attributes:
        name: the structure's name if it is exactly one, otherwise another name, e.g. "kidney".
        labels: the dataset's labels that are merged into it.
        structures: the names in `LABELS` that are merged into it; empty if TotalSegmentator v1 has no such class, so
            that the model cannot find it.
        is_listed: whether it is one of the dataset's targets; those of datasets in Table 9 are listed there.
        in_released_script: whether the official code's direct_inference/label_sys.py scores it.
        remark: note on its score.
    """

    name: str
    labels: tuple[int, ...]
    structures: tuple[str, ...]
    is_listed: bool = True
    in_released_script: bool = True
    remark: str = ""


@dataclass(frozen=True)
class DatasetMapping:
    """The labels of one dataset.

    Attributes:
        name: name of the mapping's file, as used in commands.
        title: name in the paper.
        cases: number of annotated scans that the paper evaluates.
        targets: the targets, in the order of the dataset's labels.
        unused_labels: the dataset's other labels and their names; they count as background.
        source: where the dataset is published.
        licence: licence of the data, or a note that none was found.
        ids_from: source for the meaning of its labels.
        task: name of its folder in the official code; empty if it has none.
        table9_row: its row in Table 9; None if it is not listed.
        remarks: notes on its scores.
    """

    name: str
    title: str
    cases: int
    targets: tuple[Target, ...]
    unused_labels: Mapping[int, str]
    source: str
    licence: str
    ids_from: str
    task: str = ""
    table9_row: int | None = None
    remarks: tuple[str, ...] = ()

    @property
    def target_names(self) -> dict[int, str]:
        """The targets by the integers that `remap_labels` gives them: 1, 2, ... in their order."""
        return {number: target.name for number, target in enumerate(self.targets, start=1)}

    def reference_table(self) -> dict[int, int]:
        """The dataset's label -> target, for `remap_labels`; 0 for unused labels."""
        unused = dict.fromkeys(self.unused_labels, 0)
        return unused | {
            label: number for number, target in enumerate(self.targets, start=1) for label in target.labels
        }

    def prediction_table(self, names: Sequence[str]) -> dict[int, int]:
        """A model's label -> target, for `remap_labels`; 0 for unused classes.

        Args:
            names: the model's class names by integer, background first, e.g. `LABELS`.
        """
        targets = {
            structure: number for number, target in enumerate(self.targets, start=1) for structure in target.structures
        }
        return {label: targets.get(name, 0) for label, name in enumerate(names)}

    def evaluable(self, names: Sequence[str] = LABELS) -> tuple[str, ...]:
        """The targets that a model can predict, because it has all their classes.

        Args:
            names: the model's class names.
        """
        known = set(names)
        return tuple(t.name for t in self.targets if t.structures and known.issuperset(t.structures))


def remap_labels(labels: np.ndarray, table: Mapping[int, int]) -> np.ndarray:
    """Replace each label by its entry in a table; background stays background.

    Args:
        labels: integers, of any shape.
        table: old label -> new label, at most `MAX_TARGETS`; several may become one.

    Returns:
        uint8, of the same shape.

    Raises:
        ValueError: labels are not integers, are negative, or have no entry.

    >>> remap_labels(np.array([[0, 1, 2, 3]]), {1: 1, 2: 1, 3: 0})
    array([[0, 1, 1, 0]], dtype=uint8)
    """
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels are integers, not {labels.dtype}")
    entries = {0: 0, **table}
    if labels.size == 0:
        return labels.astype(np.uint8)
    if labels.min() < 0:
        raise ValueError(f"the label {labels.min()} is negative")
    lookup = np.full(max(int(labels.max()), *entries) + 1, _UNKNOWN, dtype=np.uint8)
    lookup[list(entries)] = list(entries.values())
    remapped = lookup[labels]
    if (remapped == _UNKNOWN).any():
        unknown = np.unique(labels[remapped == _UNKNOWN])
        listed = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        raise ValueError(f"the label {listed} is not in the mapping; check the dataset and the numbering")
    return remapped


def list_mappings() -> tuple[str, ...]:
    """The names of all mappings: first those in Table 9 in its order, then the others."""
    found = [_read(path) for path in _FOLDER.glob(f"*{SUFFIX}")]
    return tuple(mapping.name for mapping in sorted(found, key=lambda m: (m.table9_row or len(found), m.name)))


def load_mapping(name: str | Path) -> DatasetMapping:
    """Read the mapping of a dataset.

    Args:
        name: one of `list_mappings()`, or your own `.toml` file of the same form.

    Raises:
        UserError: there is no such mapping, or the file is not valid.
    """
    if str(name).endswith(SUFFIX):
        return _read(Path(name))
    path = _FOLDER / f"{name}{SUFFIX}"
    if not path.is_file():
        raise UnknownNameError(f"{UnknownNameError.of('mapping', name, list_mappings())} A {SUFFIX} file works, too.")
    return _read(path)


def _read(path: Path) -> DatasetMapping:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        mapping = _parse(path.name.removesuffix(SUFFIX), content)
        _check(mapping)
    except OSError as error:
        raise FileError(f"{path} cannot be read ({error.strerror or error}).") from error
    except ValueError as error:  # TOML's errors are ValueErrors, too
        raise FileError(f"{path} is not a valid mapping: {error}.") from error
    return mapping


# Parsing. Everything is checked, so that mistakes are found before hours of prediction.

_REQUIRED = {"title": str, "cases": int, "source": str, "licence": str, "ids_from": str, "targets": list}
_OPTIONAL = {"task": str, "table9_row": int, "remarks": list, "unused_labels": dict}
_TARGET_REQUIRED = {"name": str, "labels": list, "structures": list}
_TARGET_OPTIONAL = {"listed": bool, "in_released_script": bool, "remark": str}


def _parse(name: str, content: Mapping[str, Any]) -> DatasetMapping:
    """Raise ValueError for entries that are missing, unknown or of the wrong type."""
    fields = _checked_fields(content, _REQUIRED, _OPTIONAL, "the file")
    fields["targets"] = tuple(
        _parse_target(target, f"target {number}") for number, target in enumerate(fields["targets"], start=1)
    )
    fields["remarks"] = _all_of(str, fields.get("remarks", ()), "remarks")
    unused = fields.get("unused_labels", {})
    _all_of(int, unused.values(), "unused_labels")
    fields["unused_labels"] = {label: label_name for label_name, label in unused.items()}
    return DatasetMapping(name=name, **fields)


def _parse_target(content: Any, where: str) -> Target:
    if not isinstance(content, dict):
        raise ValueError(f"{where} is not a table")
    fields = _checked_fields(content, _TARGET_REQUIRED, _TARGET_OPTIONAL, where)
    where = f"{where} ({fields['name']})"
    if not fields["labels"]:
        raise ValueError(f"the target {fields['name']} has no label")
    return Target(
        name=fields["name"],
        labels=_all_of(int, fields["labels"], f"labels of {where}"),
        structures=_all_of(str, fields["structures"], f"structures of {where}"),
        is_listed=fields.get("listed", True),
        in_released_script=fields.get("in_released_script", True),
        remark=fields.get("remark", ""),
    )


def _checked_fields(
    content: Mapping[str, Any], required: Mapping[str, type], optional: Mapping[str, type], where: str
) -> dict[str, Any]:
    missing = [key for key in required if key not in content]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    known = {**required, **optional}
    for key, value in content.items():
        if key not in known:
            raise ValueError(f"{where} has the unknown entry {key!r}")
        if type(value) is not known[key]:
            raise ValueError(f"{key} of {where} should be of type {known[key].__name__}, not {type(value).__name__}")
    return dict(content)


def _all_of(kind: type, values: Any, where: str) -> tuple[Any, ...]:
    if any(type(value) is not kind for value in values):
        raise ValueError(f"the {where} should all be of type {kind.__name__}")
    return tuple(values)


def _check(mapping: DatasetMapping) -> None:
    """Raise ValueError for impossible values."""
    if not 1 <= len(mapping.targets) <= MAX_TARGETS:
        raise ValueError(f"it has {len(mapping.targets)} targets, but only 1 to {MAX_TARGETS} can be scored")
    structures = list(chain.from_iterable(target.structures for target in mapping.targets))
    unknown = sorted(set(structures) - set(LABELS[1:]))
    if unknown:
        raise ValueError(f"{', '.join(unknown)} is not one of the 104 structures")
    labels = [*mapping.unused_labels, *chain.from_iterable(target.labels for target in mapping.targets)]
    if not 0 < min(labels) <= max(labels) < 65536:
        raise ValueError("labels are 1 to 65535; 0 is background")
    _check_once([target.name for target in mapping.targets], "the name")
    _check_once(structures, "the structure")
    _check_once(labels, "the label")


def _check_once(values: Sequence[Any], what: str) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{what} {twice[0]} is listed twice")
