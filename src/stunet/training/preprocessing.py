"""nnU-Net's preprocessed images of one configuration, case by case. Only complete cases count, and they are kept."""

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
"""Prefix of the file that records what produced the images of a folder."""

OF_THE_NETWORK = (
    "architecture",
    "patch_size",
    "batch_size",
    "batch_dice",
    "median_image_size_in_voxels",
    "next_stage",
    "inherits_from",
)
"""Entries of a configuration that do not affect its images."""

PARTIAL_FOLDER = ".partial"
"""Folder for a case's files until all are written. nnU-Net does not look into subfolders."""

SUFFIXES = (".b2nd", "_seg.b2nd", ".pkl")
"""nnU-Net's files of a case. The last one marks the case as complete."""

TRUTH_FOLDER = "gt_segmentations"
"""Folder where nnU-Net's validation looks for the original labels."""


def preprocess_images(
    cases: Sequence[TrainingCase],
    description: dict[str, Any],
    plans_file: Path,
    configuration: str,
    processes: int,
    on_case: Callable[[int, int], None],
) -> Path:
    """Create missing images of a configuration with nnU-Net's preprocessor.

    Images made by another plan (other spacing, normalisation, labels, ...) are removed first. Images that are newer
    than their source files are kept, because another size may be training on them. Arguments not listed here are as in
    `extract_fingerprint`.

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
    """Preprocess a case with nnU-Net, and move its files into place when all are written."""
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
    """Whether the case is complete and newer than its source files."""
    files = [folder / f"{case.name}{suffix}" for suffix in SUFFIXES]
    return all(file.is_file() for file in files) and files[-1].stat().st_mtime > case.changed_last()


def stamp_path(folder: Path) -> Path:
    """The file that records what produced the images. It is next to the folder: nnU-Net wants no other files inside."""
    return folder.with_name(f"{STAMP_PREFIX}{folder.name}.json")


def _stamp(plans: PlansManager, configuration: str, description: dict[str, Any]) -> dict[str, Any]:
    """Everything that affects the images. The network does not."""
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
    """Start over if the folder's images were made by something else, or their origin is unknown."""
    path = stamp_path(folder)
    stamp = json.loads(json.dumps(stamp))
    with suppress(OSError, ValueError, AttributeError):
        made_by = json.loads(path.read_text(encoding="utf-8"))
        for key in OF_THE_NETWORK:  # older stamps contain the patch
            made_by["configuration"].pop(key, None)
        if made_by == stamp:
            return
    shutil.rmtree(folder, ignore_errors=True)
    made_folder(folder)
    write_json(path, stamp)


def _remove_strangers(folder: Path, names: set[str]) -> None:
    """Remove cases that are no longer in the dataset: nnU-Net would train on them."""
    shutil.rmtree(folder / PARTIAL_FOLDER, ignore_errors=True)
    for path in folder.glob(f"*{SUFFIXES[0]}"):
        name = path.name.removesuffix(SUFFIXES[1]).removesuffix(SUFFIXES[0])
        if name not in names:
            _remove_files(folder, name)


def _remove_files(folder: Path, case: str) -> None:
    for suffix in reversed(SUFFIXES):
        (folder / f"{case}{suffix}").unlink(missing_ok=True)


def _copy_truth(cases: Sequence[TrainingCase], description: dict[str, Any], folder: Path) -> None:
    """Copy label maps that are missing or outdated."""
    made_folder(folder)
    for case in cases:
        place = folder / f"{case.name}{description['file_ending']}"
        if not place.is_file() or place.stat().st_mtime < Path(case.label).stat().st_mtime:
            with replacing(place) as temporary:
                shutil.copyfile(case.label, temporary)
