"""nnU-Net's preprocessed images of one configuration, case by case: only whole cases count, and those are kept."""

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from stunet.files import made_folder, replacing, write_json
from stunet.training.pool import work_on_cases
from stunet.training.raw_cases import TrainingCase

STAMP_PREFIX = "stunet_images_"
"""How the file begins that says what the images of a folder were made by."""

OF_THE_NETWORK = (
    "architecture",
    "patch_size",
    "batch_size",
    "batch_dice",
    "median_image_size_in_voxels",
    "next_stage",
    "inherits_from",
)
"""What a configuration holds that does not change its images."""

PARTIAL_FOLDER = ".partial"
"""Holds the files of a case until all are there; nnU-Net does not look into folders."""

SUFFIXES = (".b2nd", "_seg.b2nd", ".pkl")
"""nnU-Net's files of a case; the last says that the case is whole."""

TRUTH_FOLDER = "gt_segmentations"
"""Where nnU-Net's validation looks for the labels as they were."""


def preprocess_images(
    cases: Sequence[TrainingCase],
    description: dict[str, Any],
    plans_file: Path,
    configuration: str,
    processes: int,
    on_case: Callable[[int, int], None],
) -> Path:
    """Make the images of a configuration that are not there yet, by nnU-Net's preprocessor.

    Images that another plan made (other spacing, normalisation, labels, ...) are removed first. Images that are there
    and as new as their files are kept, because another size may be training on them. The arguments that
    `extract_fingerprint` takes, too, mean the same here.

    Args:
        plans_file: nnU-Net's plans.
        configuration: one of theirs.

    Returns:
        The folder of the images.

    Raises:
        UserError: cases that could not be preprocessed, each named with the reason.
    """
    plans = PlansManager(str(plans_file))
    folder = plans_file.parent / plans.get_configuration(configuration).data_identifier
    _require_made_by(folder, _stamp(plans, configuration, description))
    _remove_strangers(folder, {case.name for case in cases})
    to_do = {
        case.name: (case, description, plans_file, configuration, folder)
        for case in cases
        if not is_preprocessed(folder, case)
    }
    try:
        work_on_cases(preprocess_case, to_do, plans_file.parent.name, len(cases), processes, on_case)
    finally:
        shutil.rmtree(folder / PARTIAL_FOLDER, ignore_errors=True)
    _copy_truth(cases, description, plans_file.parent / TRUTH_FOLDER)
    return folder


def preprocess_case(
    case: TrainingCase, description: dict[str, Any], plans_file: Path, configuration: str, folder: Path
) -> None:
    """Let nnU-Net's preprocessor write a case, and move its files to their names when all are there."""
    plans = PlansManager(str(plans_file))
    chosen = plans.get_configuration(configuration)
    partial = made_folder(folder / PARTIAL_FOLDER)
    _remove_files(partial, case.name)
    chosen.preprocessor_class(verbose=False).run_case_save(
        str(partial / case.name), list(case.images), case.label, plans, chosen, description
    )
    (folder / f"{case.name}{SUFFIXES[-1]}").unlink(missing_ok=True)
    for suffix in SUFFIXES:
        (partial / f"{case.name}{suffix}").replace(folder / f"{case.name}{suffix}")


def is_preprocessed(folder: Path, case: TrainingCase) -> bool:
    """Whether a case is there whole, and newer than its files."""
    files = [folder / f"{case.name}{suffix}" for suffix in SUFFIXES]
    return all(file.is_file() for file in files) and files[-1].stat().st_mtime > case.changed_last()


def stamp_path(folder: Path) -> Path:
    """The file that says what the images of a folder were made by; beside it, for nnU-Net wants no others inside."""
    return folder.with_name(f"{STAMP_PREFIX}{folder.name}.json")


def _stamp(plans: PlansManager, configuration: str, description: dict[str, Any]) -> dict[str, Any]:
    """All that decides what the images look like; the network is no part of it."""
    chosen = plans.get_configuration(configuration).configuration
    return {
        "configuration": {key: value for key, value in chosen.items() if key not in OF_THE_NETWORK},
        "transpose_forward": list(plans.transpose_forward),
        "reader": plans.plans["image_reader_writer"],
        "intensities": plans.foreground_intensity_properties_per_channel,
        "labels": description["labels"],
        "regions_class_order": description.get("regions_class_order"),
    }


def _require_made_by(folder: Path, stamp: dict[str, Any]) -> None:
    """Start anew if the folder's images were made by something else, or it is not known by what."""
    path = stamp_path(folder)
    stamp = json.loads(json.dumps(stamp))
    with suppress(OSError, ValueError, AttributeError):
        made_by = json.loads(path.read_text(encoding="utf-8"))
        for key in OF_THE_NETWORK:  # older stamps hold the patch
            made_by["configuration"].pop(key, None)
        if made_by == stamp:
            return
    shutil.rmtree(folder, ignore_errors=True)
    made_folder(folder)
    write_json(path, stamp)


def _remove_strangers(folder: Path, names: set[str]) -> None:
    """Remove cases that the dataset does not have any more, for nnU-Net trains on all that are there."""
    shutil.rmtree(folder / PARTIAL_FOLDER, ignore_errors=True)
    for path in folder.glob(f"*{SUFFIXES[0]}"):
        name = path.name.removesuffix(SUFFIXES[1]).removesuffix(SUFFIXES[0])
        if name not in names:
            _remove_files(folder, name)


def _remove_files(folder: Path, case: str) -> None:
    for suffix in reversed(SUFFIXES):
        (folder / f"{case}{suffix}").unlink(missing_ok=True)


def _copy_truth(cases: Sequence[TrainingCase], description: dict[str, Any], folder: Path) -> None:
    """Copy label maps that are not there, or older."""
    made_folder(folder)
    for case in cases:
        place = folder / f"{case.name}{description['file_ending']}"
        if not place.is_file() or place.stat().st_mtime < Path(case.label).stat().st_mtime:
            with replacing(place) as temporary:
                shutil.copyfile(case.label, temporary)
