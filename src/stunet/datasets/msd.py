"""The Medical Segmentation Decathlon: ten tasks of MR and CT (Antonelli et al. 2022, Simpson et al. 2019).

- Layout (medicaldecathlon.com): `Task03_Liver/` with `dataset.json`, `imagesTr`, `labelsTr`, and `imagesTs` without
  labels. `dataset.json` has `modality` and `labels` (integer -> name), `numTraining`, `numTest` and the lists
  `training` and `test`. Images with several channels are 4D files.
- Numbers, channels and label names: each task's published `dataset.json` (131, 281 and 41 training cases of liver,
  pancreas and spleen are also in the STU-Net paper, appendix B). The website and the papers count 3 more hippocampi and
  one more lung for training, and one more hippocampus for testing, 2633 in total; both counts are accepted. Names are
  compared case-insensitively.
- The lists define the cases. The archives also contain leftovers of macOS (`._*`), which are ignored.
- Licence: CC-BY-SA 4.0 (medicaldecathlon.com).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stunet.datasets.source import (
    Choice,
    Published,
    SourceCase,
    SourceDataset,
    SplitPart,
    find_folder,
    name_differences,
    number_differences,
    refuse_modality,
)
from stunet.errors import FileError, UserError
from stunet.files import read_json_object
from stunet.imaging.formats.registry import without_suffix

LICENCE = "CC-BY-SA 4.0"
REFERENCE = "http://medicaldecathlon.com/"


@dataclass(frozen=True)
class Task:
    """A task as it was published.

    Attributes:
        training, test: numbers of cases in the archive and, if different, on the website.
        channels: names of the modalities.
        labels: class names by integer, background first.
    """

    training: tuple[int, ...]
    test: tuple[int, ...]
    channels: tuple[str, ...]
    labels: tuple[str, ...]


TASKS: dict[str, Task] = {
    "BrainTumour": Task(
        (484,),
        (266,),
        ("FLAIR", "T1w", "t1gd", "T2w"),
        ("background", "edema", "non-enhancing tumor", "enhancing tumour"),
    ),
    "Heart": Task((20,), (10,), ("MRI",), ("background", "left atrium")),
    "Liver": Task((131,), (70,), ("CT",), ("background", "liver", "cancer")),
    "Hippocampus": Task((260, 263), (130, 131), ("MRI",), ("background", "Anterior", "Posterior")),
    "Prostate": Task((32,), (16,), ("T2", "ADC"), ("background", "PZ", "TZ")),
    "Lung": Task((63, 64), (32,), ("CT",), ("background", "cancer")),
    "Pancreas": Task((281,), (139,), ("CT",), ("background", "pancreas", "cancer")),
    "HepaticVessel": Task((303,), (140,), ("CT",), ("background", "Vessel", "Tumour")),
    "Spleen": Task((41,), (20,), ("CT",), ("background", "spleen")),
    "Colon": Task((126,), (64,), ("CT",), ("background", "colon cancer primaries")),
}
"""Name of the task's folder, without its number -> the published numbers and names."""

_FOLDER = re.compile(r"Task\d+_(?P<name>\w+)")


def find(source: Path, choice: Choice) -> SourceDataset:
    """The training and test cases listed in the task's `dataset.json`.

    Raises:
        UserError: there is no task folder, or its `dataset.json` is not in the Decathlon's format.
    """
    refuse_modality(choice, "A task of the Decathlon")
    folder = find_folder(source, "dataset.json")
    named = _FOLDER.fullmatch(folder.resolve().name)
    if named is None or named["name"] not in TASKS:
        raise UserError(
            f"{folder} is not a task of the Decathlon: its name should be Task01_BrainTumour to Task10_Colon."
        )
    name, task = named["name"], TASKS[named["name"]]
    description = read_description(folder / "dataset.json")
    channels = in_order(description["modality"])
    labels = in_order(description["labels"])
    published = Published(
        name=name,
        description=str(description.get("description", f"Medical Segmentation Decathlon, {name}")),
        reference=REFERENCE,
        licence=LICENCE,
        channels=channels,
        labels=labels,
        cases={"train": task.training, "test": task.test},
    )
    cases = (
        *listed_cases(folder, description["training"], "train"),
        *listed_cases(folder, description["test"], "test"),
    )
    differences = (
        *number_differences(cases, published),
        *name_differences(labels, task.labels, "labels", name),
        *name_differences(channels, task.channels, "channels", name),
    )
    return SourceDataset(folder, published, tuple(sorted(cases, key=lambda case: case.name)), differences)


def listed_cases(folder: Path, entries: Sequence[str | dict[str, str]], part: SplitPart) -> list[SourceCase]:
    """The cases of one list in `dataset.json`. Labels of test cases are ignored, because none are published.

    An entry is {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}, or "./imagesTs/b.nii.gz".
    """
    cases = []
    for entry in entries:
        files = {"image": entry} if isinstance(entry, str) else entry
        image = folder / files["image"]
        label = None if part == "test" else folder / files["label"]
        cases.append(SourceCase(without_suffix(image), (image,), label, part))
    return cases


def read_description(path: Path) -> dict[str, Any]:
    """Read a `dataset.json` in the Decathlon's format, which AMOS22 shares.

    Raises:
        UserError: it is not JSON, or lacks entries.
    """
    description = read_json_object(path)
    if "channel_names" in description:
        raise FileError(
            f"{path} is in nnU-Net v2's raw layout already. Put its folder into STUNET_HOME/raw (or nnUNet_raw) as "
            "Dataset001_NAME, and run `stunet dataset check`."
        )
    missing = [key for key in ("modality", "labels", "training", "test") if key not in description]
    if missing:
        raise FileError(
            f"{path} is not a dataset.json in the Decathlon's format: it has no {' and no '.join(missing)}."
        )
    return description


def in_order(names: Mapping[str, str]) -> tuple[str, ...]:
    """{"0": "background", "1": "liver"} -> names by integer.

    Raises:
        UserError: the integers do not count from 0 without a gap.
    """
    if not (isinstance(names, Mapping) and all(str(key).isdigit() for key in names)):
        raise FileError(
            f'The labels or modalities of dataset.json should have numbers first, {{"1": "liver"}}: {names}.'
        )
    integers = sorted(int(key) for key in names)
    if integers != list(range(len(names))):
        raise UserError(f"The labels or modalities of dataset.json should count from 0 without a gap, not {integers}.")
    return tuple(str(names[str(number)]) for number in integers)
