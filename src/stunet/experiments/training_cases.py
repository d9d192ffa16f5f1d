"""The cases of a training run: its own dataset in nnU-Net's raw layout, made of links to the given one."""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stunet.datasets.raw import SPLITS, Fold, read_splits
from stunet.datasets.subset import write_subsets
from stunet.errors import FileError, UnknownNameError, UserError, listed
from stunet.files import made_folder, replacing_files_in, write_json
from stunet.imaging.formats.registry import read_labels, write_labels
from stunet.plans.labels import LabelTable
from stunet.plans.raw_dataset import DESCRIPTION, FILE_LIST, LABEL, Files, RawDataset, read_raw_dataset

SUBSET_SEED = 0
"""Seed of the nested subsets: every rerun uses the same cases."""


@dataclass(frozen=True)
class Split:
    """Cases to train on and cases to validate on, by name."""

    train: tuple[str, ...]
    val: tuple[str, ...]


@dataclass(frozen=True)
class TrainingCases:
    """A selection of cases and labels.

    Attributes:
        number: of the new dataset, 1 to 999; unique within an experiment.
        name: in the paper's tables, "AMOS-CT".
        source: name in `--data` of the dataset that the cases come from, "amos22_ct". It is in nnU-Net's raw layout.
        split: the cases; None uses fold 0 of the dataset's own split.
        validation: name in `--data` of a second dataset with the same labels; the run then trains on all cases of the
            first and validates on all cases of the second.
        labels: names of the labels to keep, the others become background; () keeps all.
        fractions: fractions of the training cases, each a nested subset to train on.
    """

    number: int
    name: str
    source: str
    split: Split | None = None
    validation: str | None = None
    labels: tuple[str, ...] = ()
    fractions: tuple[float, ...] = ()

    @property
    def datasets(self) -> tuple[str, ...]:
        """Dataset names for `--data`."""
        return (self.source,) if self.validation is None else (self.source, self.validation)

    @property
    def folder_name(self) -> str:
        """The dataset's full name: "Dataset022_AMOSCT"."""
        return f"Dataset{self.number:03d}_{''.join(filter(str.isalnum, self.name))}"


def make_dataset(cases: TrainingCases, data: Mapping[str, Path], raw: Path) -> Path:
    """The dataset of a selection, created if it does not exist yet. It appears whole or not at all.

    Args:
        cases: the selection.
        data: name -> folder, as from `--data`.
        raw: nnU-Net's raw folder.

    Raises:
        UserError: a dataset is missing or not valid, lacks some cases or labels, or has no split.
    """
    folder = raw / cases.folder_name
    if (folder / DESCRIPTION).is_file():
        return folder
    sources = [_given(name, data) for name in cases.datasets]
    labelled = [_labelled(source) for source in sources]
    files = dict(ChainMap(*reversed(labelled)))
    split = _split(cases, sources[0], labelled)
    described = read_raw_dataset(sources[0])
    chosen = (*split.train, *split.val)
    content = _content(described.content, cases.labels, len(chosen))
    _require(cases, split, files)
    made_folder(raw)
    with replacing_files_in(folder) as temporary:
        _link(temporary, {name: files[name] for name in chosen}, described, cases)
        write_json(temporary / DESCRIPTION, content)
        write_json(temporary / SPLITS, [{"train": list(split.train), "val": list(split.val)}])
        if cases.fractions:
            write_subsets(temporary, [cases_of(fraction, split) for fraction in cases.fractions], SUBSET_SEED)
    return folder


def cases_of(fraction: float, split: Split | Fold) -> int:
    """Number of training cases in a fraction, at least one.

    >>> cases_of(0.05, Split(("a", "b", "c"), ("d",)))
    1
    """
    train = split.train if isinstance(split, Split) else split["train"]
    return max(1, round(fraction * len(train)))


def fold_of(fraction: float | None, folder: Path) -> int:
    """The fold that trains on a fraction of a dataset's cases; 0, with all cases, if `fraction` is None.

    Raises:
        UserError: the dataset was made without that fold.
    """
    if fraction is None:
        return 0
    folds = read_splits(folder / SPLITS)
    size = cases_of(fraction, folds[0])
    for number, fold in enumerate(folds[1:], start=1):
        if len(fold["train"]) == size:
            return number
    raise FileError(f"{folder / SPLITS} has no fold of {size} cases. Remove the folder; it will be made again.")


def validation_labels(folder: Path) -> dict[str, Path]:
    """Validation case -> label map, for a dataset made by `make_dataset`."""
    fold = read_splits(folder / SPLITS)[0]
    files = read_raw_dataset(folder).training_files()
    return {case: files[case][LABEL] for case in fold["val"]}


def _given(name: str, data: Mapping[str, Path]) -> Path:
    if name not in data:
        raise UserError(f"This run needs the dataset {name!r}: give --data {name}=FOLDER, in nnU-Net's raw layout.")
    if not data[name].is_dir():
        raise FileError(f"--data {name}={data[name]}: there is no such folder.")
    return data[name]


def _labelled(folder: Path) -> dict[str, Files]:
    """The cases that have a label map and all channels."""
    dataset = read_raw_dataset(folder)
    complete = {*dataset.channel_numbers, LABEL}
    return {name: found for name, found in dataset.training_files().items() if set(found) == complete}


def _split(cases: TrainingCases, source: Path, labelled: Sequence[Mapping[str, Files]]) -> Split:
    if cases.split is not None:
        return cases.split
    if len(labelled) > 1:
        train, val = (tuple(names) for names in labelled)
        return Split(train, val)
    folds = read_splits(source / SPLITS)
    if not folds:
        raise FileError(
            f"{source} has no {SPLITS}, so the cases to validate on are not known. Write one, a list with "
            '{"train": [...], "val": [...]}.'
        )
    return Split(tuple(folds[0]["train"]), tuple(folds[0]["val"]))


def _require(cases: TrainingCases, split: Split, files: Mapping[str, Any]) -> None:
    both = set(split.train) & set(split.val)
    if both:
        raise UserError(f"{cases.name}: {sorted(both)[0]} is among the cases to train on and those to validate on.")
    missing = [name for name in (*split.train, *split.val) if name not in files]
    if missing:
        number = f"{len(missing)} cases of the split"
        raise FileError(f"{cases.source}: {number} have no images or no label map: {listed(missing)}.")


def _content(content: Mapping[str, Any], names: Sequence[str], number: int) -> dict[str, Any]:
    """The content of the new `dataset.json`: all labels, or those of `names` renumbered, and no list of files."""
    labels = content["labels"]
    unknown = [name for name in names if name not in labels]
    if unknown:
        raise UnknownNameError(f"The dataset has no label {listed(unknown)}.")
    kept = {"background": 0, **{name: integer for integer, name in enumerate(names, start=1)}} if names else labels
    others = {key: value for key, value in content.items() if key != FILE_LIST}
    return {**others, "labels": kept, "numTraining": number}


def _link(folder: Path, files: Mapping[str, Files], dataset: RawDataset, cases: TrainingCases) -> None:
    images, labels = made_folder(folder / "imagesTr"), made_folder(folder / "labelsTr")
    for name, found in files.items():
        for channel, path in found.items():
            if channel != LABEL:
                (images / f"{name}_{channel}{dataset.file_ending}").symlink_to(path.resolve())
        place = labels / f"{name}{dataset.file_ending}"
        if cases.labels:
            _write_kept(found[LABEL], place, dataset.labels, cases.labels)
        else:
            place.symlink_to(found[LABEL].resolve())


def _write_kept(path: Path, place: Path, table: LabelTable, names: Sequence[str]) -> None:
    """Write a label map with the labels of `names` numbered from 1 and everything else as background."""
    labels = read_labels(path)
    old = {name: label for label, name in table.names.items()}
    new = np.zeros(max(int(labels.array.max()), *table.integers) + 1, dtype=np.uint8)
    for number, name in enumerate(names, start=1):
        new[list(table.integers_of(old[name]))] = number
    write_labels(new[labels.array[0]], labels, place, dict(enumerate(names, start=1)))
