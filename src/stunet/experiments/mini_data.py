"""The data of the `mini` profile: a few real images, and trainings on them."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from stunet.datasets.raw import SPLITS, dataset_description
from stunet.errors import FileError
from stunet.experiments.paper_data import Downstream
from stunet.experiments.scores import ScoredTarget
from stunet.experiments.training_cases import Split, TrainingCases
from stunet.experiments.training_run import TrainingRun, TrainingSchedule
from stunet.files import made_folder, replacing_files_in, write_json
from stunet.labels.ontology import LABELS
from stunet.plans.raw_dataset import DESCRIPTION

VARIABLE = "STUNET_SHARED"
"""If set, a mini run takes data that `--data` does not name from the folder `data` in it."""

FOLDERS = {
    "hippocampus": "Dataset004_Hippocampus",
    "stspet": "Dataset901_STSPET",
    "totalseg_example": "totalseg_example",
}
"""Name in `--data` -> folder name."""


def _named(prefix: str, train: str, val: str) -> Split:
    return Split(*(tuple(f"{prefix}_{number}" for number in part.split()) for part in (train, val)))


HIPPOCAMPUS = TrainingCases(
    4,
    "Hippocampus",
    "hippocampus",
    _named(
        "hippocampus",
        "001 024 044 064 090 105 133 152 169 185 210 227 244 264 289 304 322 337 356 375",
        "014 077 161 221 298 350",
    ),
)
"""MR crops around one hippocampus each, 1 mm; labels Anterior and Posterior."""

HIPPOCAMPUS_LABELS = ("Anterior", "Posterior")

HIPPOCAMPUS_TARGETS = (*(ScoredTarget(name, (name,)) for name in HIPPOCAMPUS_LABELS), ScoredTarget())

STSPET = TrainingCases(
    901, "STSPET", "stspet", _named("STS", "001 003 006 010 014 018 021 023 026 029 031 034", "002 015 027 038")
)
"""PET of soft-tissue sarcoma; label GTV."""

ABDOMEN = TrainingCases(104, "AbdomenCT", "totalseg_example", Split(("ct",), ("ct_crop",)))
"""One CT at 3 mm with the 104 labels for pre-training; a crop of it, labelled by another model, for validation."""

_ABDOMEN_FILES = {
    "imagesTr/ct_0000.nii.gz": "ct.nii.gz",
    "labelsTr/ct.nii.gz": "labels_stunet104.nii.gz",
    "imagesTr/ct_crop_0000.nii.gz": "ct_crop.nii.gz",
    "labelsTr/ct_crop.nii.gz": "ct_crop_labels_stunet104.nii.gz",
}

EPOCHS = 2
"""Epochs of every mini training."""


MINI_STUNETS = (("stunet-tiny", "STU-Net, tiny", "tiny"), ("stunet-s", "STU-Net-S", "small"))
"""Key of the run, name of the system, network."""

MINI_DOWNSTREAM = (Downstream(HIPPOCAMPUS, 3), Downstream(STSPET, 2))
"""Datasets to fine-tune on."""


def short(iterations: int, schedule: TrainingSchedule = TrainingSchedule()) -> TrainingSchedule:  # noqa: B008 (frozen)
    """The schedule with this many iterations in total."""
    return replace(schedule, epochs=EPOCHS, iterations=iterations // EPOCHS)


def mini_training(key: str, system: str, network: str, iterations: int, **more: Any) -> TrainingRun:
    """A training on the hippocampi, scored on both labels. `more` are fields of `TrainingRun`."""
    fields: dict[str, Any] = {
        "cases": HIPPOCAMPUS,
        "targets": HIPPOCAMPUS_TARGETS,
        "schedule": short(iterations),
        "classes": 3,
        **more,
    }
    return TrainingRun(key, system, network, **fields)


def mini_pretraining(iterations: int, key: str = "pretraining", mirror: bool | None = None) -> TrainingRun:
    """Train a tiny STU-Net on the single CT. Its own score is not shown."""
    schedule = short(iterations, TrainingSchedule(mirror=mirror, patch=(64, 64, 64)))
    return TrainingRun(key, "STU-Net, tiny", "tiny", ABDOMEN, (), schedule)


def data_with_minis(given: dict[str, Path], folder: Path) -> dict[str, Path]:
    """The given data, completed by those in `STUNET_SHARED`. The single CT is converted to a dataset.

    Args:
        given: name -> folder, as from `--data`.
        folder: of the experiment; the dataset of the single CT is created in it.
    """
    shared = os.environ.get(VARIABLE)
    places = {name: Path(shared) / "data" / place for name, place in FOLDERS.items()} if shared else {}
    data = {**{name: place for name, place in places.items() if place.is_dir()}, **given}
    example = data.get("totalseg_example")
    if example is not None and not (example / DESCRIPTION).is_file():
        data["totalseg_example"] = _abdomen_dataset(example, folder / "given" / "totalseg_example")
    return data


def _abdomen_dataset(example: Path, place: Path) -> Path:
    """Link the CT, its crop and their labels into nnU-Net's raw layout.

    Raises:
        UserError: a file is missing.
    """
    missing = [name for name in _ABDOMEN_FILES.values() if not (example / name).is_file()]
    if missing:
        raise FileError(f"{example} has no {', '.join(missing)}; is it the folder of TotalSegmentator's example?")
    if (place / DESCRIPTION).is_file():
        return place
    made_folder(place.parent)
    with replacing_files_in(place) as temporary:
        for link, name in _ABDOMEN_FILES.items():
            made_folder((temporary / link).parent)
            (temporary / link).symlink_to((example / name).resolve())
        write_json(temporary / SPLITS, [{"train": ["ct"], "val": ["ct_crop"]}])
        write_json(temporary / DESCRIPTION, dataset_description(("CT",), LABELS, 1))
    return place
