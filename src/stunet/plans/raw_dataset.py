"""Read a dataset in nnU-Net's raw layout: its dataset.json and the files of its cases."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stunet.errors import FileError, UserError, listed
from stunet.files import read_json_object
from stunet.plans.labels import LabelTable, are_numbers_first, label_problems, label_table, turned_round

DESCRIPTION = "dataset.json"

REQUIRED = ("channel_names", "labels", "numTraining", "file_ending")
"""The entries that nnU-Net requires."""

FILE_LIST = "dataset"
"""The optional entry that lists the files of each case, which may then be in any folder."""

FILE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
"""File endings that stunet reads and writes and nnU-Net can train with."""

ENDINGS_2D = (".png", ".bmp", ".jpg", ".jpeg")
"""File endings of 2D images."""

LABEL = "label"
"""The key of the label map among the files of a case."""

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")

Files = dict[str, Path]
"""Files of a case: "0000", "0001", ... -> image, "label" -> label map, "" -> an image without a channel number."""


@dataclass(frozen=True)
class RawDataset:
    """A dataset to train on.

    Attributes:
        folder: folder of the dataset.
        content: content of `dataset.json`, as nnU-Net reads it.
        channels: names of the input channels.
        labels: structures in its label maps.
        stated_cases: number of training cases stated in `dataset.json` (`numTraining`).
        file_ending: ending of all file names, one of `FILE_ENDINGS`.
    """

    folder: Path
    content: dict[str, Any]
    channels: tuple[str, ...]
    labels: LabelTable
    stated_cases: int
    file_ending: str

    @property
    def channel_numbers(self) -> tuple[str, ...]:
        """The channel numbers in file names: "0000", "0001", ..."""
        return tuple(f"{number:04d}" for number in range(len(self.channels)))

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences on what to correct in `dataset.json` before a model is trained."""
        return (*self._channel_problems(), *label_problems(self.content))

    def _channel_problems(self) -> Iterator[str]:
        named = list(self.content["channel_names"])
        expected = [str(number) for number in range(len(named))]
        if named != expected:
            yield f"the numbers in channel_names should be {listed(expected)}, in this order, not {listed(named)}."

    def training_files(self) -> dict[str, Files]:
        """The files of each training case by its name, sorted.

        These are the files listed in `dataset.json` (`dataset`), or else `imagesTr/<case>_0000.nii.gz` and
        `labelsTr/<case>.nii.gz`. Hidden files, such as the `._` files of macOS, are left out.

        Raises:
            UserError: the list of files is invalid, or a file has another ending.
        """
        if FILE_LIST in self.content:
            return _listed_files(self.folder, self.content[FILE_LIST], self.file_ending)
        return _files_in_folders(self.folder, self.file_ending)

    def require_no_hidden_images(self) -> None:
        """Refuse hidden files, which nnU-Net would treat as cases.

        Raises:
            UserError: there are hidden files among the images.
        """
        folder = self.folder / "imagesTr"
        hidden = [] if FILE_LIST in self.content else sorted(path.name for path in folder.glob(f".*{self.file_ending}"))
        if hidden:
            raise FileError(
                f"{folder} contains hidden files, which are not images: {listed(hidden)}. macOS writes such files "
                f"(._*). Remove them: find '{self.folder}' -name '._*' -delete"
            )


def read_raw_dataset(folder: Path) -> RawDataset:
    """Read the `dataset.json` of a folder.

    Raises:
        UserError: the file does not exist, or an entry that nnU-Net requires is missing or invalid.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise FileError(f"{folder} has no {DESCRIPTION}, so it isn't a dataset in nnU-Net's raw layout.")
    content = read_json_object(path)
    try:
        _require_version_2(content)
        missing = [key for key in REQUIRED if key not in content]
        if missing:
            raise FileError(f"it has no {' and no '.join(missing)}, which nnU-Net needs.")
        return RawDataset(
            folder,
            content,
            channels_in_order(content["channel_names"]),
            label_table(content),
            _whole_number(content["numTraining"]),
            _known_ending(content["file_ending"]),
        )
    except UserError as error:
        raise type(error)(f"{path}: {error}") from error


def channels_in_order(named: Any) -> tuple[str, ...]:
    """The names of the input channels, from dataset.json's `channel_names`: {"0": "T1", "1": "T2"}.

    Raises:
        UserError: `channel_names` has another form.
    """
    if isinstance(named, list):
        right = json.dumps({str(number): str(name) for number, name in enumerate(named)})
        raise FileError(f'channel_names is a list, but nnU-Net needs numbers and names: write "channel_names": {right}')
    try:
        return tuple(str(named[number]) for number in sorted(named, key=int))
    except (TypeError, ValueError) as error:
        raise FileError(f'channel_names should have numbers first, such as {{"0": "CT"}}, not {named!r}.') from error


def _require_version_2(content: Mapping[str, Any]) -> None:
    """Refuse the form of nnU-Net v1 and the Decathlon, and show the form of version 2."""
    labels, named = content.get("labels"), content.get("modality")
    changes: dict[str, Any] = {}
    if "channel_names" not in content and named is not None:
        changes["channel_names"] = named
    if isinstance(labels, Mapping) and are_numbers_first(labels):
        changes["labels"] = turned_round(labels)
    if not changes:
        return
    if "file_ending" not in content:
        changes["file_ending"] = FILE_ENDINGS[0]
    lines = ", ".join(f'"{key}": {json.dumps(value)}' for key, value in changes.items())
    raise FileError(
        f"it has the form of nnU-Net v1 and the Decathlon. For version 2 write {lines}. The name of each image "
        "ends with its channel: case_0000.nii.gz. A task of the Decathlon is converted by `stunet dataset convert msd`."
    )


def _whole_number(stated: Any) -> int:
    if not isinstance(stated, int) or isinstance(stated, bool):
        raise FileError(f"it states numTraining as {stated!r}, which is not a whole number; write it without quotes.")
    return stated


def _known_ending(ending: Any) -> str:
    if ending in FILE_ENDINGS:
        return str(ending)
    if str(ending).lower() in ENDINGS_2D:
        raise UserError(f"images that end with {ending} are 2D, but stunet's networks are 3D.")
    meant = f".{str(ending).lower().removeprefix('.')}"
    if meant in FILE_ENDINGS:
        raise FileError(f"file_ending is {ending!r}; write {meant!r}, and rename the files to end in it, too.")
    raise FileError(
        f"file_ending is {ending!r}, but datasets can be trained on whose files end in {', '.join(FILE_ENDINGS)}. "
        "Convert the images and label maps to one of these, and correct file_ending."
    )


def _files_in_folders(folder: Path, ending: str) -> dict[str, Files]:
    files: dict[str, Files] = {}
    for path in sorted((folder / "imagesTr").glob(f"[!.]*{ending}")):
        stem = path.name.removesuffix(ending)
        match = _CHANNEL.fullmatch(stem)
        case, channel = (match["case"], match["channel"]) if match else (stem, "")
        files.setdefault(case, {})[channel] = path
    for path in sorted((folder / "labelsTr").glob(f"[!.]*{ending}")):
        files.setdefault(path.name.removesuffix(ending), {})[LABEL] = path
    return dict(sorted(files.items()))


def _listed_files(folder: Path, cases: Any, ending: str) -> dict[str, Files]:
    """The files listed in `dataset.json`. Paths are relative to the folder and may contain variables such as $HOME."""
    try:
        files = {str(case): _listed_case(folder, entry["images"], entry["label"]) for case, entry in cases.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise FileError(
            f"{folder / DESCRIPTION}: {FILE_LIST!r} should name the files of each case, such as "
            f'{{"case": {{"images": ["a.nii.gz"], "label": "b.nii.gz"}}}} ({error!r}).'
        ) from error
    foreign = [path for found in files.values() for path in found.values() if not path.name.endswith(ending)]
    if foreign:
        raise FileError(
            f"{folder / DESCRIPTION}: {FILE_LIST!r} names files that do not end in {ending}, the file_ending: "
            f"{listed(foreign)}. nnU-Net needs one format for all."
        )
    return files


def _listed_case(folder: Path, images: Any, label: str) -> Files:
    if not isinstance(images, list):
        raise TypeError("images should be a list")
    numbered = {f"{number:04d}": _place(folder, image) for number, image in enumerate(images)}
    return {**numbered, LABEL: _place(folder, label)}


def _place(folder: Path, path: str) -> Path:
    return folder / os.path.expandvars(path)
