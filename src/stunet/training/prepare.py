"""Fingerprint, plans and preprocessed images of a dataset: nnU-Net's, for an STU-Net."""

import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprint_dataset,
    plan_experiment_dataset,
    preprocess_dataset,
)
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from stunet.errors import UserError
from stunet.networks.stunet import SIZES
from stunet.training import MAX_PROCESSES
from stunet.training.folders import find_dataset, set_nnunet_environment
from stunet.training.planners import STUNetPlanner, images_folder_name, plans_name


@dataclass(frozen=True)
class PreparedDataset:
    """What `prepare` made.

    Attributes:
        dataset: full name, "Dataset004_Hippocampus".
        plans_file: the plans of this size.
        configuration: the configuration that was preprocessed, "3d_fullres".
        cases: number of preprocessed cases.
    """

    dataset: str
    plans_file: Path
    configuration: str
    cases: int


def prepare(
    dataset: str, size: str, configuration: str = "3d_fullres", processes: int | None = None
) -> PreparedDataset:
    """Extract the fingerprint, plan for an STU-Net and preprocess, all by nnU-Net.

    Args:
        dataset: number or name of a dataset in nnU-Net's raw layout.
        size: one of `SIZES`.
        configuration: "3d_fullres" or "3d_lowres".
        processes: how many cases at a time; by default one for each processor, eight at most.

    Raises:
        UserError: an unknown dataset, size or configuration, or images and labels that nnU-Net's check refuses.
    """
    if size not in SIZES:
        raise UserError(f"There is no size {size!r}. Known are: {', '.join(SIZES)}.")
    folders = set_nnunet_environment()
    name = find_dataset(dataset, folders.raw)
    raw = folders.raw / name
    if not (raw / "dataset.json").is_file():
        raise UserError(f"{raw} has no dataset.json, so it isn't a dataset in nnU-Net's raw layout.")
    images = folders.preprocessed / name / images_folder_name(configuration)
    plans_file = folders.preprocessed / name / f"{plans_name(size)}.json"
    processes = processes or min(MAX_PROCESSES, os.cpu_count() or 1)
    number = int(name[7:10])
    try:
        up_to_date = _are_up_to_date(images, raw)
        extract_fingerprint_dataset(number, num_processes=processes, check_dataset_integrity=True, clean=not up_to_date)
    except (AssertionError, RuntimeError) as error:
        raise UserError(f"nnU-Net refuses the dataset {name}: {error}") from error
    plan_experiment_dataset(number, partial(STUNetPlanner, size=size))  # type: ignore[arg-type]
    configurations = json.loads(plans_file.read_text())["configurations"]
    if configuration not in configurations:
        raise UserError(f"nnU-Net plans no {configuration!r} for {name}, only: {', '.join(configurations)}.")
    if not up_to_date:
        preprocess_dataset(number, plans_file.stem, (configuration,), [processes])  # type: ignore[arg-type]
    return PreparedDataset(name, plans_file, configuration, len(list(images.glob("*.pkl"))))


def _are_up_to_date(images: Path, raw: Path) -> bool:
    """Whether each training case has been preprocessed since its files last changed.

    All sizes share these images, and another size may be training on them: nnU-Net would delete them first.
    """
    cases = get_filenames_of_train_images_and_targets(str(raw))
    return all(
        (done := images / f"{case}.pkl").is_file()
        and all(Path(file).stat().st_mtime < done.stat().st_mtime for file in (*files["images"], files["label"]))
        for case, files in cases.items()
    )
