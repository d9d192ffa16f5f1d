"""The training cases of a dataset in nnU-Net's raw layout."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stunet.errors import FileError, listed
from stunet.plans.raw_dataset import DESCRIPTION, LABEL, Files, RawDataset, read_raw_dataset


@dataclass(frozen=True)
class TrainingCase:
    """One case.

    Attributes:
        name: of the case.
        images: one file per channel.
        label: the label file.
    """

    name: str
    images: tuple[str, ...]
    label: str

    @property
    def files(self) -> tuple[Path, ...]:
        """Images, then labels."""
        return tuple(Path(file) for file in (*self.images, self.label))

    def changed_last(self) -> float:
        """Time of the last change to any of its files, in seconds since the epoch.

        Raises:
            UserError: a file is missing.
        """
        return max(stat.st_mtime for stat in self._stats())

    def signature(self) -> list[list[int]]:
        """Size and modification time (ns) of each file. If it differs, the case has changed.

        Raises:
            UserError: a file is missing.
        """
        return [[stat.st_size, stat.st_mtime_ns] for stat in self._stats()]

    def _stats(self) -> list[Any]:
        try:
            return [file.stat() for file in self.files]
        except OSError as error:
            raise FileError(f"{self.name}: {error.filename}: there is no such file.") from error


def find_cases(raw: Path) -> tuple[RawDataset, list[TrainingCase]]:
    """Read the dataset's description and find its cases, in nnU-Net's order.

    Raises:
        UserError: a `dataset.json` that nnU-Net cannot use, files that are missing or not images, no case, or another
            number of cases than `dataset.json` states.
    """
    dataset = read_raw_dataset(raw)
    path = raw / DESCRIPTION
    if dataset.problems:
        raise FileError(f"{path}: {' '.join(dataset.problems)}")
    dataset.require_no_hidden_images()
    files = {name: found for name, found in dataset.training_files().items() if set(found) - {LABEL}}
    if not files:
        raise FileError(f"{raw} has no training image that ends in {dataset.file_ending} (file_ending, {DESCRIPTION}).")
    _require_channels(files, dataset)
    _require_labels(files, dataset)
    if len(files) != dataset.stated_cases:
        raise FileError(
            f"{path} states {dataset.stated_cases} training cases (numTraining), but there are {len(files)}: "
            f"{listed(files)}. Correct the number, or the files."
        )
    channels = dataset.channel_numbers
    cases = [
        TrainingCase(name, tuple(str(found[channel]) for channel in channels), str(found[LABEL]))
        for name, found in files.items()
    ]
    return dataset, cases


def _require_channels(files: Mapping[str, Files], dataset: RawDataset) -> None:
    unnumbered = [found[""] for found in files.values() if "" in found]
    ending = dataset.file_ending
    if unnumbered:
        name = unnumbered[0].name.removesuffix(ending)
        raise FileError(
            f"{unnumbered[0].parent}: {len(unnumbered)} images have no channel number: "
            f"{listed(path.name for path in unnumbered)}. Call them {name}_0000{ending}, and so on."
        )
    expected = set(dataset.channel_numbers)
    wrong = {name: sorted(set(found) - {LABEL}) for name, found in files.items() if set(found) - {LABEL} != expected}
    if wrong:
        raise FileError(
            f"{dataset.folder / DESCRIPTION} names the channels {', '.join(sorted(expected))}, but {len(wrong)} of "
            f"{len(files)} cases have others: {listed(f'{name} ({listed(found)})' for name, found in wrong.items())}."
        )


def _require_labels(files: Mapping[str, Files], dataset: RawDataset) -> None:
    absent = [name for name, found in files.items() if LABEL not in found or not found[LABEL].is_file()]
    if absent:
        raise FileError(
            f"{dataset.folder}: {len(absent)} of {len(files)} cases have no label map (labelsTr/CASE"
            f"{dataset.file_ending}, or as {DESCRIPTION} names it): {listed(absent, len(absent))}."
        )
