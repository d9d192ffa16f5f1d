"""The training cases of a dataset in nnU-Net's raw layout."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from stunet.errors import FileError, UserError, listed
from stunet.files import read_json_object

ENDINGS_2D = (".png", ".bmp", ".jpg", ".jpeg")
"""Of images that nnU-Net reads and that have no third dimension."""


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
        UserError: no `dataset.json`, one that nnU-Net cannot use, files that are missing or no images, no case, or
            another number than `dataset.json` states.
    """
    path = raw / "dataset.json"
    if not path.is_file():
        raise FileError(f"{raw} has no dataset.json, so it isn't a dataset in nnU-Net's raw layout.")
    description = read_json_object(path)
    missing = [key for key in ("labels", "channel_names", "numTraining", "file_ending") if key not in description]
    if missing:
        raise FileError(f"{path} has no {' and no '.join(missing)}, which nnU-Net needs.")
    expected_labels(description)
    _require_number(description["numTraining"], path)
    if "dataset" not in description:
        _require_named_images(raw / "imagesTr", description["file_ending"])
    found = get_filenames_of_train_images_and_targets(str(raw), description)
    cases = [TrainingCase(str(name), tuple(files["images"]), files["label"]) for name, files in found.items()]
    if not cases or len(cases) != description["numTraining"]:
        raise FileError(
            f"{path} states {description['numTraining']} training cases (numTraining), but there are {len(cases)}: "
            f"{listed(case.name for case in cases)}. Correct the number, or the files."
        )
    _require_labels(cases)
    return description, cases


def _require_number(stated: Any, path: Path) -> None:
    if not isinstance(stated, int) or isinstance(stated, bool):
        raise FileError(f"{path} states numTraining as {stated!r}, which is no whole number; write it without quotes.")


def _require_named_images(folder: Path, ending: str) -> None:
    """Refuse files of which nnU-Net would make cases of other names, or whose kind has no third dimension."""
    if ending.lower() in ENDINGS_2D:
        raise UserError(f"Images that end with {ending} are 2D, and stunet's networks are 3D; {folder} needs volumes.")
    names = sorted(path.name for path in folder.glob(f"*{ending}"))
    hidden = [name for name in names if name.startswith(".")]
    if hidden:
        raise FileError(
            f"{folder} holds hidden files, which are no images: {listed(hidden)}. macOS writes such files (._*). "
            f"Remove them: find '{folder.parent}' -name '._*' -delete"
        )
    unnumbered = [name for name in names if not re.search(r"_\d{4}$", name.removesuffix(ending))]
    if unnumbered:
        raise FileError(
            f"{folder}: {len(unnumbered)} of {len(names)} images have no channel number: {listed(unnumbered)}. Call "
            f"them {unnumbered[0].removesuffix(ending)}_0000{ending}, and so on."
        )


def _require_labels(cases: Sequence[TrainingCase]) -> None:
    absent = [case.name for case in cases if not Path(case.label).is_file()]
    if absent:
        raise FileError(
            f"{len(absent)} of {len(cases)} cases have no label map in {Path(cases[0].label).parent}: "
            f"{listed(absent, len(absent))}."
        )


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
