"""What a published dataset is: the cases in its folder, and the numbers and names that it was published with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from stunet.errors import UserError
from stunet.imaging.formats.registry import read_labels
from stunet.imaging.volume import Volume, check_same_grid

SplitPart = Literal["train", "val", "test"]
"""Which part of its dataset's own split a case belongs to."""


@dataclass(frozen=True)
class Published:
    """What a dataset's authors say of it.

    Attributes:
        name: what "Dataset004_" is followed by.
        description, reference, licence: for `dataset.json`.
        channels: what each input channel shows; nnU-Net chooses the normalisation by it ("CT" is clipped).
        labels: class names by integer, background first.
        cases: number of cases of each part; several numbers where publications differ.
        labelled: number of cases whose label map is not empty, where that was published.
        reader: nnU-Net's reader class; None leaves the choice to nnU-Net.
    """

    name: str
    description: str
    reference: str
    licence: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    cases: Mapping[SplitPart, tuple[int, ...]]
    labelled: int | None = None
    reader: str | None = None


@dataclass(frozen=True)
class SourceCase:
    """One case, where it lies.

    Attributes:
        name: in the new dataset; letters, digits, "_" and "-".
        images: one file for each channel, or one 4D file with all of them.
        label: a label map or a folder of masks; None where none was published.
        part: of the dataset's own split.
        group: the patient, where a patient has several cases that should not be on both sides of a split.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    part: SplitPart = "train"
    group: str | None = None


@dataclass(frozen=True)
class LabelMap:
    """The labels of one case.

    Attributes:
        array: (Z, Y, X) uint8 or uint16, on the grid of the image.
        overlaps: "a under b" -> voxels that structure a lost to structure b, where labels come as one mask each.
        missing: structures without a mask; they count as absent.
    """

    array: np.ndarray
    overlaps: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def read_label_map(case: SourceCase, image: Volume) -> LabelMap:
    """Read the label map of a case.

    Raises:
        UserError: unreadable, no label map, or not on the image's grid.
    """
    assert case.label is not None
    labels = read_labels(case.label)
    check_same_grid(image, labels)
    return LabelMap(labels.array[0])


@dataclass(frozen=True)
class SourceDataset:
    """The cases that were found, and what of them differs from the publication.

    Attributes:
        folder: where they lie.
        published: numbers and names.
        cases: in order of name.
        differences: sentences, each on a number or name that is not as published.
        known_damage: case name -> why its files are known to be unreadable; such a case costs no failure.
        spacing: (Z, Y, X) mm to which cases are resampled that have another; None leaves all as they are.
        read_labels: reads the labels of a case, given its image.
    """

    folder: Path
    published: Published
    cases: tuple[SourceCase, ...]
    differences: tuple[str, ...] = ()
    known_damage: Mapping[str, str] = field(default_factory=dict)
    spacing: tuple[float, float, float] | None = None
    read_labels: Callable[[SourceCase, Volume], LabelMap] = read_label_map


@dataclass(frozen=True)
class Choice:
    """What of a published dataset is wanted.

    Attributes:
        modality: one of those that a dataset of several has, e.g. "MR"; None takes all.
        partial: accept a part of the dataset, or a miniature; differences from the publication are only reported.
    """

    modality: str | None = None
    partial: bool = False


def refuse_modality(choice: Choice, dataset: str) -> None:
    """Raise UserError where a modality is asked of a dataset that has one only."""
    if choice.modality is not None:
        raise UserError(f"{dataset} has one modality; leave --modality out.")


def chosen_modality(choice: Choice, known: Sequence[str], dataset: str) -> str | None:
    """The modality that is asked for, spelt as in `known`; None for all.

    Raises:
        UserError: one that the dataset does not have.
    """
    if choice.modality is None:
        return None
    for modality in known:
        if modality.casefold() == choice.modality.casefold():
            return modality
    raise UserError(f"{dataset} has the modalities {', '.join(known)}, not {choice.modality!r}.")


def find_folder(source: Path, marker: str, places: Sequence[str] = ()) -> Path:
    """The folder that holds `marker`: `source` or one of its subfolders `places`, as archives unpack in several ways.

    Raises:
        UserError: none of them does.
    """
    for folder in (source, *(source / place for place in places)):
        if (folder / marker).exists():
            return folder
    raise UserError(f"{source} holds no {marker}. Give the folder into which the published archive was unpacked.")


def number_differences(cases: Sequence[SourceCase], published: Published) -> tuple[str, ...]:
    """A sentence for each part that has another number of cases than was published."""
    sentences = []
    for part, expected in published.cases.items():
        found = sum(case.part == part for case in cases)
        if found not in expected:
            numbers = " or ".join(map(str, expected))
            sentences.append(f"{published.name}: {found} {part} cases were found, {numbers} were published.")
    return tuple(sentences)


def name_differences(found: Sequence[str], published: Sequence[str], what: str, dataset: str) -> tuple[str, ...]:
    """A sentence where names of labels or channels are not the published ones, whatever their case."""
    if [name.casefold() for name in found] == [name.casefold() for name in published]:
        return ()
    return (f"{dataset}: the {what} are {', '.join(found)}; published were {', '.join(published)}.",)
