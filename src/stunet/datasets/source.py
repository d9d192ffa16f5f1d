"""A published dataset: the cases in its folder, and its published numbers and names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from stunet.errors import UserError
from stunet.imaging.formats.registry import read_labels
from stunet.imaging.volume import Volume, check_same_grid

SplitPart = Literal["train", "val", "test"]
"""The part of the dataset's own split that a case belongs to."""


@dataclass(frozen=True)
class Published:
    """Published facts about a dataset.

    Attributes:
        name: the part after "Dataset004_".
        description, reference, licence: for `dataset.json`.
        channels: content of each input channel; nnU-Net chooses the normalisation by it ("CT" is clipped).
        labels: class names by integer, background first.
        cases: number of cases of each part; several numbers if publications differ.
        labelled: number of cases whose label map is not empty, if published.
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
    """One case and its files.

    Attributes:
        name: in the new dataset; letters, digits, "_" and "-".
        images: one file per channel, or one 4D file with all channels.
        label: a label map or a folder of masks; None if none was published.
        part: of the dataset's own split.
        group: the patient, if a patient has several cases that must stay on one side of a split.
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
        overlaps: "a under b" -> voxels that structure a lost to structure b, if each label has its own mask.
        missing: structures without a mask; they count as absent.
    """

    array: np.ndarray
    overlaps: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def read_label_map(case: SourceCase, image: Volume) -> LabelMap:
    """Read the label map of a case.

    Raises:
        UserError: the file is unreadable, not a label map, or not on the image's grid.
    """
    assert case.label is not None
    labels = read_labels(case.label)
    check_same_grid(image, labels)
    return LabelMap(labels.array[0])


@dataclass(frozen=True)
class SourceDataset:
    """The cases that were found, and how they differ from the publication.

    Attributes:
        folder: with the cases.
        published: numbers and names.
        cases: sorted by name.
        differences: one sentence for each number or name that differs from the publication.
        known_damage: case name -> why its files are known to be unreadable; such a case is not a failure.
        spacing: (Z, Y, X) mm to which cases with another spacing are resampled; None resamples none.
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
    """The requested part of a published dataset.

    Attributes:
        modality: one modality of a dataset with several, e.g. "MR"; None takes all.
        partial: accept a part of the dataset, or a miniature; differences from the publication are only reported.
    """

    modality: str | None = None
    partial: bool = False


def refuse_modality(choice: Choice, dataset: str) -> None:
    """Raise UserError if a modality is requested of a dataset that has only one."""
    if choice.modality is not None:
        raise UserError(f"{dataset} has one modality; leave --modality out.")


def chosen_modality(choice: Choice, known: Sequence[str], dataset: str) -> str | None:
    """The requested modality, spelt as in `known`; None for all.

    Raises:
        UserError: the dataset does not have it.
    """
    if choice.modality is None:
        return None
    for modality in known:
        if modality.casefold() == choice.modality.casefold():
            return modality
    raise UserError(f"{dataset} has the modalities {', '.join(known)}, not {choice.modality!r}.")


def find_folder(source: Path, marker: str, places: Sequence[str] = ()) -> Path:
    """The folder with `marker`: `source` or one of its subfolders `places`, since archives unpack in several ways.

    Raises:
        UserError: none of them has it.
    """
    for folder in (source, *(source / place for place in places)):
        if (folder / marker).exists():
            return folder
    raise UserError(f"{source} has no {marker}. Give the folder into which the published archive was unpacked.")


def number_differences(cases: Sequence[SourceCase], published: Published) -> tuple[str, ...]:
    """A sentence for each part whose number of cases differs from the published one."""
    sentences = []
    for part, expected in published.cases.items():
        found = sum(case.part == part for case in cases)
        if found not in expected:
            numbers = " or ".join(map(str, expected))
            sentences.append(f"{published.name}: {found} {part} cases were found, {numbers} were published.")
    return tuple(sentences)


def name_differences(found: Sequence[str], published: Sequence[str], what: str, dataset: str) -> tuple[str, ...]:
    """A sentence if names of labels or channels differ from the published ones, ignoring case."""
    if [name.casefold() for name in found] == [name.casefold() for name in published]:
        return ()
    return (f"{dataset}: the {what} are {', '.join(found)}; published were {', '.join(published)}.",)
