"""Which cases a training run sees: a dataset of its own in nnU-Net's raw layout, made of links to the one given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stunet.datasets.raw import (
    DESCRIPTION,
    SPLITS,
    Fold,
    label_values,
    read_dataset_description,
    read_splits,
    training_files,
)
from stunet.datasets.subset import write_subsets
from stunet.errors import FileError, UnknownNameError, UserError, listed
from stunet.files import made_folder, replacing_files_in, write_json
from stunet.imaging.formats.registry import read_labels, write_labels

SUBSET_SEED = 0
"""Of the nested subsets: the same cases in every rerun."""


@dataclass(frozen=True)
class Split:
    """Cases to train on and cases to validate on, by name."""

    train: tuple[str, ...]
    val: tuple[str, ...]


@dataclass(frozen=True)
class TrainingCases:
    """A choice of cases and of labels.

    Attributes:
        number: of the dataset that is made, 1 to 999; two choices of one recipe have two numbers.
        name: that the paper's tables give it, "AMOS-CT".
        source: what `--data` calls the dataset that the cases come from, "amos22_ct". It is in nnU-Net's raw layout.
        split: which cases; None takes fold 0 of the dataset's own split.
        validation: what `--data` calls a second dataset with the same labels: all cases of the first are then trained
            on, and all of the second validated on.
        labels: names of the labels that are kept, the others become background; () keeps all.
        fractions: shares of the training cases, each a nested subset to train on.
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
        """Names for `--data`."""
        return (self.source,) if self.validation is None else (self.source, self.validation)

    @property
    def folder_name(self) -> str:
        """The dataset's full name: "Dataset022_AMOSCT"."""
        return f"Dataset{self.number:03d}_{''.join(filter(str.isalnum, self.name))}"


def make_dataset(cases: TrainingCases, data: Mapping[str, Path], raw: Path) -> Path:
    """The dataset of a choice, made where it is not there yet; it appears whole.

    Args:
        cases: the choice.
        data: name to folder, as `--data` gives them.
        raw: nnU-Net's raw folder.

    Raises:
        UserError: a dataset that was not given or is none, cases or labels that it does not have, or no split.
    """
    folder = raw / cases.folder_name
    if (folder / DESCRIPTION).is_file():
        return folder
    sources = [_given(name, data) for name in cases.datasets]
    description = read_dataset_description(sources[0])
    files = {name: found for source in sources for name, found in _labelled(source, description).items()}
    split = _split(cases, sources, description)
    kept = _kept_labels(description, cases.labels)
    _require(cases, split, files)
    made_folder(raw)
    with replacing_files_in(folder) as temporary:
        _link(temporary, {name: files[name] for name in (*split.train, *split.val)}, description, cases)
        number = len(split.train) + len(split.val)
        write_json(temporary / DESCRIPTION, {**description, "labels": kept, "numTraining": number})
        write_json(temporary / SPLITS, [{"train": list(split.train), "val": list(split.val)}])
        if cases.fractions:
            write_subsets(temporary, [cases_of(fraction, split) for fraction in cases.fractions], SUBSET_SEED)
    return folder


def cases_of(fraction: float, split: Split | Fold) -> int:
    """How many of the training cases a share is, one at least.

    >>> cases_of(0.05, Split(("a", "b", "c"), ("d",)))
    1
    """
    train = split.train if isinstance(split, Split) else split["train"]
    return max(1, round(fraction * len(train)))


def fold_of(fraction: float | None, folder: Path) -> int:
    """The fold of a dataset that trains on a share of its cases; 0, all of them, where there is no share.

    Raises:
        UserError: the dataset was made without it.
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
    """Name of each validation case of a dataset that `make_dataset` made -> its label map."""
    fold = read_splits(folder / SPLITS)[0]
    files = training_files(folder, read_dataset_description(folder)["file_ending"])
    return {case: files[case]["label"] for case in fold["val"]}


def _given(name: str, data: Mapping[str, Path]) -> Path:
    if name not in data:
        raise UserError(f"This run needs the dataset {name!r}: give --data {name}=FOLDER, in nnU-Net's raw layout.")
    if not data[name].is_dir():
        raise FileError(f"--data {name}={data[name]}: there is no such folder.")
    return data[name]


def _labelled(folder: Path, description: Mapping[str, Any]) -> dict[str, dict[str, Path]]:
    """The cases that have a label map and all channels."""
    channels = {f"{int(channel):04d}" for channel in description["channel_names"]}
    files = training_files(folder, description["file_ending"])
    return {name: found for name, found in files.items() if set(found) == {*channels, "label"}}


def _split(cases: TrainingCases, sources: Sequence[Path], description: Mapping[str, Any]) -> Split:
    if cases.split is not None:
        return cases.split
    if len(sources) > 1:
        train, val = (tuple(_labelled(source, description)) for source in sources)
        return Split(train, val)
    folds = read_splits(sources[0] / SPLITS)
    if not folds:
        raise FileError(
            f"{sources[0]} has no {SPLITS}, so the cases to validate on are not known. Write one, a list with "
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


def _kept_labels(description: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The `labels` of the new `dataset.json`: all as they were, or those kept, numbered anew."""
    if not names:
        return dict(description["labels"])
    unknown = [name for name in names if name not in description["labels"]]
    if unknown:
        raise UnknownNameError(f"The dataset has no label {listed(unknown)}.")
    return {"background": 0, **{name: number for number, name in enumerate(names, start=1)}}


def _link(
    folder: Path, files: Mapping[str, Mapping[str, Path]], description: Mapping[str, Any], cases: TrainingCases
) -> None:
    images, labels = made_folder(folder / "imagesTr"), made_folder(folder / "labelsTr")
    ending = description["file_ending"]
    for name, found in files.items():
        for channel, path in found.items():
            if channel != "label":
                (images / f"{name}_{channel}{ending}").symlink_to(path.resolve())
        if cases.labels:
            _write_kept(found["label"], labels / f"{name}{ending}", description, cases.labels)
        else:
            (labels / f"{name}{ending}").symlink_to(found["label"].resolve())


def _write_kept(path: Path, place: Path, description: Mapping[str, Any], names: Sequence[str]) -> None:
    """The label map with the labels of `names` numbered from 1, and all others as background."""
    labels = read_labels(path)
    old = {name: value for value, name in label_values(description).items()}
    new = np.zeros(max(int(labels.array.max()), *old.values()) + 1, dtype=np.uint8)
    for number, name in enumerate(names, start=1):
        new[old[name]] = number
    write_labels(new[labels.array[0]], labels, place, dict(enumerate(names, start=1)))
