"""The training cases of a dataset in nnU-Net's raw layout."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from stunet.errors import FileError
from stunet.files import read_json_object


@dataclass(frozen=True)
class TrainingCase:
    """One case.

    Attributes:
        name: of the case.
        images: a file for each channel.
        label: the file of its labels.
    """

    name: str
    images: tuple[str, ...]
    label: str

    @property
    def files(self) -> tuple[Path, ...]:
        """Images, then labels."""
        return tuple(Path(file) for file in (*self.images, self.label))

    def changed_last(self) -> float:
        """When one of its files was last changed, in seconds since the epoch.

        Raises:
            UserError: a file is missing.
        """
        return max(stat.st_mtime for stat in self._stats())

    def signature(self) -> list[list[int]]:
        """Size and time of change (ns) of each file; another signature means that the case has changed.

        Raises:
            UserError: a file is missing.
        """
        return [[stat.st_size, stat.st_mtime_ns] for stat in self._stats()]

    def _stats(self) -> list[Any]:
        try:
            return [file.stat() for file in self.files]
        except OSError as error:
            raise FileError(f"{self.name}: {error.filename}: there is no such file.") from error


def find_cases(raw: Path) -> tuple[dict[str, Any], list[TrainingCase]]:
    """The content of `dataset.json`, and the cases in nnU-Net's order.

    Raises:
        UserError: no `dataset.json`, one that nnU-Net cannot use, no case, or another number than it states.
    """
    path = raw / "dataset.json"
    if not path.is_file():
        raise FileError(f"{raw} has no dataset.json, so it isn't a dataset in nnU-Net's raw layout.")
    description = read_json_object(path)
    missing = [key for key in ("labels", "channel_names", "numTraining", "file_ending") if key not in description]
    if missing:
        raise FileError(f"{path} has no {' and no '.join(missing)}, which nnU-Net needs.")
    expected_labels(description)
    found = get_filenames_of_train_images_and_targets(str(raw), description)
    cases = [TrainingCase(str(name), tuple(files["images"]), files["label"]) for name, files in found.items()]
    if not cases or len(cases) != description["numTraining"]:
        raise FileError(f"{path} states {description['numTraining']} training cases, but there are {len(cases)}.")
    return description, cases


def expected_labels(description: dict[str, Any]) -> list[int]:
    """All integers that a label map may hold.

    Raises:
        UserError: labels that nnU-Net cannot use.
    """
    try:
        manager = LabelManager(description["labels"], description.get("regions_class_order"))
        labels = [*manager.all_labels, *([manager.ignore_label] if manager.ignore_label is not None else [])]
    except (AssertionError, RuntimeError, AttributeError, TypeError, ValueError) as error:
        raise FileError(f"nnU-Net refuses the labels of dataset.json: {error}") from error
    if not np.all(np.diff(labels) == 1):
        raise FileError(f"The labels of dataset.json should count from 0 without a gap, not {labels}.")
    return [int(label) for label in labels]
