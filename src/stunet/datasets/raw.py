"""File names, `dataset.json` and folds of a dataset in nnU-Net v2's raw layout."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stunet.errors import UserError

FILE_ENDING = ".nii.gz"
SPLITS = "splits_final.json"
"""nnU-Net's planner copies this file from the raw folder to the preprocessed one."""

Fold = dict[str, list[str]]
"""{"train": names of cases, "val": names of cases}, as in nnU-Net's file."""


@dataclass(frozen=True)
class CaseFiles:
    """Paths of a case's files.

    Attributes:
        images: one per channel, in order.
        label: the label map.
    """

    images: tuple[Path, ...]
    label: Path


def case_files(folder: Path, case: str, channels: int, is_test: bool = False) -> CaseFiles:
    """The files of a case: `imagesTr/<case>_0000.nii.gz` and `labelsTr/<case>.nii.gz`, or `...Ts`.

    Args:
        folder: of the dataset.
        case: its name.
        channels: number of images.
        is_test: use `imagesTs`, on which nnU-Net does not train.
    """
    part = "Ts" if is_test else "Tr"
    images = tuple(folder / f"images{part}" / f"{case}_{channel:04d}{FILE_ENDING}" for channel in range(channels))
    return CaseFiles(images, folder / f"labels{part}" / f"{case}{FILE_ENDING}")


def dataset_description(
    channels: Sequence[str], labels: Sequence[str], training: int, **more: str | None
) -> dict[str, Any]:
    """The content of a `dataset.json`. Entries of `more` that are None are left out."""
    return {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {name: integer for integer, name in enumerate(labels)},
        "numTraining": training,
        "file_ending": FILE_ENDING,
        **{key: value for key, value in more.items() if value is not None},
    }


def read_splits(path: Path) -> list[Fold]:
    """The folds of a splits file; none if the file does not exist.

    Raises:
        UserError: the file is not a list of folds.
    """
    if not path.is_file():
        return []
    try:
        return [{"train": list(fold["train"]), "val": list(fold["val"])} for fold in json.loads(path.read_text())]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a splits file of nnU-Net ({error!r}).") from error
