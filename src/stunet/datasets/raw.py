"""nnU-Net v2's raw layout: which file of a dataset is what."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stunet.errors import UserError

FILE_ENDING = ".nii.gz"
DESCRIPTION = "dataset.json"
SPLITS = "splits_final.json"
"""nnU-Net's planner copies this file from the raw folder to the preprocessed one."""

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")

Fold = dict[str, list[str]]
"""{"train": names of cases, "val": names of cases}, as nnU-Net writes it."""


@dataclass(frozen=True)
class CaseFiles:
    """Where the files of a case lie.

    Attributes:
        images: one for each channel, in order.
        label: the label map.
    """

    images: tuple[Path, ...]
    label: Path


def case_files(folder: Path, case: str, channels: int, is_test: bool = False, ending: str = FILE_ENDING) -> CaseFiles:
    """The files that a case of a dataset has: `imagesTr/<case>_0000.nii.gz` and `labelsTr/<case>.nii.gz`, or `...Ts`.

    Args:
        folder: the dataset's.
        case: its name.
        channels: how many images it has.
        is_test: nnU-Net does not train on `imagesTs`.
        ending: what the dataset's files end in.
    """
    part = "Ts" if is_test else "Tr"
    images = tuple(folder / f"images{part}" / f"{case}_{channel:04d}{ending}" for channel in range(channels))
    return CaseFiles(images, folder / f"labels{part}" / f"{case}{ending}")


def training_files(folder: Path, ending: str = FILE_ENDING) -> dict[str, dict[str, Path]]:
    """All files of the training part: name of a case -> "0000", "0001", ... -> image, and "label" -> label map.

    An image without a channel number stands under "" in a case of its whole name. Hidden files, such as the `._` files
    that macOS writes, are no part.
    """
    files: dict[str, dict[str, Path]] = {}
    for path in sorted((folder / "imagesTr").glob(f"[!.]*{ending}")):
        stem = path.name.removesuffix(ending)
        match = _CHANNEL.fullmatch(stem)
        case, channel = (match["case"], match["channel"]) if match else (stem, "")
        files.setdefault(case, {})[channel] = path
    for path in sorted((folder / "labelsTr").glob(f"[!.]*{ending}")):
        files.setdefault(path.name.removesuffix(ending), {})["label"] = path
    return dict(sorted(files.items()))


def dataset_description(
    channels: Sequence[str], labels: Sequence[str], training: int, **more: str | None
) -> dict[str, Any]:
    """The content of a `dataset.json`; `more` that is None is left out."""
    return {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {name: integer for integer, name in enumerate(labels)},
        "numTraining": training,
        "file_ending": FILE_ENDING,
        **{key: value for key, value in more.items() if value is not None},
    }


def read_dataset_description(folder: Path) -> dict[str, Any]:
    """The `dataset.json` of a dataset.

    Raises:
        UserError: none, or one without the entries that nnU-Net demands.
    """
    path = folder / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in ("channel_names", "labels", "numTraining", "file_ending") if key not in content]
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no {DESCRIPTION}, so it isn't a dataset in nnU-Net's raw layout.") from error
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}).") from error
    if missing:
        raise UserError(f"{path} has no {' and no '.join(missing)}, which nnU-Net needs.")
    return content


def label_values(description: Mapping[str, Any]) -> dict[int, str]:
    """Integer -> name of the labels of a `dataset.json`; a region (several integers) names each that has no name yet.

    Raises:
        UserError: labels that are no integers.
    """
    names: dict[int, str] = {}
    try:
        for name, value in description["labels"].items():
            for integer in value if isinstance(value, list) else [value]:
                names.setdefault(int(integer), name)
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"The labels of {DESCRIPTION} are not names with integers ({error}).") from error
    return names


def read_splits(path: Path) -> list[Fold]:
    """The folds of a splits file; none where there is no file.

    Raises:
        UserError: a file that is no list of folds.
    """
    if not path.is_file():
        return []
    try:
        return [{"train": list(fold["train"]), "val": list(fold["val"])} for fold in json.loads(path.read_text())]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no splits file of nnU-Net's ({error!r}).") from error
