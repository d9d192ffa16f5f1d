"""nnU-Net's check and fingerprint of a dataset, case by case: what is done is kept if the rest is interrupted."""

import contextlib
import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.experiment_planning.verify_dataset_integrity import check_cases, verify_labels
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

from stunet.errors import UserError
from stunet.files import made_folder, replacing, write_json
from stunet.imaging.formats.registry import has_suffix, read_labels, read_volume
from stunet.imaging.volume import check_same_grid
from stunet.training.pool import work_on_cases
from stunet.training.raw_cases import TrainingCase, expected_labels

FINGERPRINT_NAME = "dataset_fingerprint.json"
"""nnU-Net's name."""

STAMP_NAME = "stunet_fingerprint.json"
"""What the fingerprint was taken of."""

CASES_FOLDER = "fingerprint_cases"
"""Holds what is known of each case until the fingerprint is complete."""

FOREGROUND_VOXELS = 1e8
"""Intensities that nnU-Net looks at, of all cases together (`num_foreground_voxels_for_intensitystats`)."""

PERCENTILES = (0.5, 50.0, 99.5)


def extract_fingerprint(
    cases: Sequence[TrainingCase],
    description: dict[str, Any],
    folder: Path,
    processes: int,
    on_case: Callable[[int, int], None],
) -> None:
    """Check all cases as nnU-Net does, and write its fingerprint, which is equal to its own.

    A fingerprint of the same files is left alone. Cases that an interrupted run has analysed are not analysed again.

    Args:
        cases: of the dataset.
        description: content of its `dataset.json`.
        folder: of the preprocessed dataset.
        processes: how many cases at a time.
        on_case: called with the number of cases done and of all.

    Raises:
        UserError: cases that nnU-Net refuses, each named with its files and the reason.
    """
    samples = int(FOREGROUND_VOXELS // len(cases))
    stamp = {
        "cases": {case.name: case.signature() for case in cases},
        "labels": description["labels"],
        "channels": description["channel_names"],
    }
    stamped = None
    with contextlib.suppress(OSError, ValueError):  # no stamp, or a damaged one
        stamped = json.loads((folder / STAMP_NAME).read_text(encoding="utf-8"))
    if stamped == stamp and (folder / FINGERPRINT_NAME).is_file():
        on_case(len(cases), len(cases))
        return
    places = {case.name: made_folder(folder / CASES_FOLDER) / f"{case.name}.npz" for case in cases}
    to_do = {
        case.name: (case, description, samples, places[case.name])
        for case in cases
        if not _is_of(places[case.name], case, samples)
    }
    work_on_cases(analyse_case, to_do, folder.name, len(cases), processes, on_case)
    summary = _summary([places[case.name] for case in cases], folder.name)
    _require_volumes(summary, folder.name)
    write_json(folder / FINGERPRINT_NAME, summary)
    write_json(folder / STAMP_NAME, stamp)
    shutil.rmtree(folder / CASES_FOLDER)


def analyse_case(case: TrainingCase, description: dict[str, Any], samples: int, place: Path) -> None:
    """Check a case, and write down what the fingerprint needs of it.

    Args:
        case: which.
        description: content of `dataset.json`.
        samples: how many foreground intensities to draw.
        place: the .npz file to write.

    Raises:
        UserError: what is wrong with it.
    """
    _require_one_grid(case)
    reader = determine_reader_writer_from_dataset_json(description, case.images[0], verbose=False)
    _require_nnunets_consent(case, description, reader)
    shape, spacing, intensities, _, relative_size = DatasetFingerprintExtractor.analyze_case(
        list(case.images), case.label, reader, samples
    )
    known = {
        "signature": np.array(case.signature()),
        "samples": np.array(samples),
        "shape": np.array(shape),
        "spacing": np.array([float(size) for size in spacing]),
        "relative_size": np.array(relative_size),
        **{f"channel_{channel}": np.asarray(values) for channel, values in enumerate(intensities)},
    }
    with replacing(place) as temporary, temporary.open("wb") as file:
        np.savez(file, **known)  # type: ignore[arg-type]


def _require_nnunets_consent(case: TrainingCase, description: dict[str, Any], reader: type) -> None:
    """nnU-Net prints what is wrong with a case; here it becomes the error.

    Raises:
        UserError: what it printed.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        agreed = verify_labels(case.label, reader, expected_labels(description))
        agreed = check_cases(list(case.images), case.label, len(description["channel_names"]), reader) and agreed
    if not agreed:
        text = re.sub(r"np\.\w+\(([^()]*)\)", r"\1", printed.getvalue())  # np.int64(3) is 3
        raise UserError(" ".join(text.split()))


def _require_one_grid(case: TrainingCase) -> None:
    """Refuse files that lie beside each other; nnU-Net only prints a warning, and takes truncated files, too.

    Raises:
        UserError: a file that cannot be read, or is on another grid than the first.
    """
    if not all(map(has_suffix, case.files)):
        return
    first, *others = (read_volume(Path(image)) for image in case.images)
    for other in (*others, read_labels(Path(case.label))):
        check_same_grid(first, other)


def _is_of(place: Path, case: TrainingCase, samples: int) -> bool:
    """Whether there is an analysis of this case as its files are now."""
    try:
        with np.load(place, allow_pickle=False) as known:
            return int(known["samples"]) == samples and known["signature"].tolist() == case.signature()
    except (OSError, ValueError, KeyError):
        return False


def _require_volumes(summary: dict[str, Any], dataset: str) -> None:
    """Refuse 2D images, for which nnU-Net plans a 2D network only."""
    slices = np.median(summary["shapes_after_crop"], axis=0).min()
    if slices <= 1:
        raise UserError(f"The images of {dataset} are 2D: they have one slice. stunet's networks are 3D.")


def _summary(places: Sequence[Path], dataset: str) -> dict[str, Any]:
    """The fingerprint of all cases together, as nnU-Net computes and names it.

    Raises:
        UserError: no label map has a foreground.
    """
    known = [np.load(place, allow_pickle=False) for place in places]
    if not sum(case["channel_0"].size for case in known):
        raise UserError(
            f"No label map of {dataset} holds any foreground: all voxels are background or the ignore label. nnU-Net "
            "plans by the foreground's intensities; are these the right label maps?"
        )
    channels = sum(key.startswith("channel_") for key in known[0])
    return {
        "spacings": [case["spacing"].tolist() for case in known],
        "shapes_after_crop": [case["shape"].tolist() for case in known],
        "foreground_intensity_properties_per_channel": {
            str(channel): _statistics(np.concatenate([case[f"channel_{channel}"] for case in known]))
            for channel in range(channels)
        },
        "median_relative_size_after_cropping": float(np.median([case["relative_size"] for case in known])),
    }


def _statistics(intensities: np.ndarray) -> dict[str, float]:
    low, median, high = np.percentile(intensities, PERCENTILES)
    return {
        "mean": float(np.mean(intensities)),
        "median": float(median),
        "std": float(np.std(intensities)),
        "min": float(np.min(intensities)),
        "max": float(np.max(intensities)),
        "percentile_99_5": float(high),
        "percentile_00_5": float(low),
    }
