"""nnU-Net's dataset check and fingerprint, one case at a time, so that an interrupted run can continue."""

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
from stunet.imaging.formats.registry import read_labels, read_volume
from stunet.imaging.volume import check_same_grid
from stunet.plans.raw_dataset import RawDataset
from stunet.training.pool import work_on_cases
from stunet.training.raw_cases import TrainingCase

FINGERPRINT_NAME = "dataset_fingerprint.json"
"""nnU-Net's name."""

STAMP_NAME = "stunet_fingerprint.json"
"""Records the files from which the fingerprint was computed."""

CASES_FOLDER = "fingerprint_cases"
"""The folder with the results per case, until the fingerprint is complete."""

FOREGROUND_VOXELS = 1e8
"""Number of intensities that nnU-Net samples over all cases (`num_foreground_voxels_for_intensitystats`)."""

PERCENTILES = (0.5, 50.0, 99.5)


def extract_fingerprint(
    cases: Sequence[TrainingCase],
    dataset: RawDataset,
    folder: Path,
    processes: int,
    on_case: Callable[[int, int], None],
) -> None:
    """Check all cases as nnU-Net does, and write a fingerprint equal to nnU-Net's.

    An existing fingerprint of the same files is kept. Cases that an interrupted run analysed are not analysed again.

    Args:
        cases: of the dataset.
        dataset: the contents of its `dataset.json`.
        folder: of the preprocessed dataset.
        processes: number of cases processed at the same time.
        on_case: called with the number of cases done and the total.

    Raises:
        UserError: nnU-Net refuses some cases. The message names each with its files and the reason.
    """
    samples = int(FOREGROUND_VOXELS // len(cases))
    stamp = {
        "cases": {case.name: case.signature() for case in cases},
        "labels": dataset.content["labels"],
        "channels": dataset.content["channel_names"],
    }
    stamped = None
    with contextlib.suppress(OSError, ValueError):  # no stamp, or a damaged one
        stamped = json.loads((folder / STAMP_NAME).read_text(encoding="utf-8"))
    if stamped == stamp and (folder / FINGERPRINT_NAME).is_file():
        on_case(len(cases), len(cases))
        return
    places = {case.name: made_folder(folder / CASES_FOLDER) / f"{case.name}.npz" for case in cases}
    to_do = {
        case.name: (case, dataset, samples, places[case.name])
        for case in cases
        if not _is_of(places[case.name], case, samples)
    }
    work_on_cases(analyse_case, to_do, folder.name, len(cases), processes, on_case)
    summary = _summary([places[case.name] for case in cases], folder.name)
    _require_volumes(summary, folder.name)
    write_json(folder / FINGERPRINT_NAME, summary)
    write_json(folder / STAMP_NAME, stamp)
    shutil.rmtree(folder / CASES_FOLDER)


def analyse_case(case: TrainingCase, dataset: RawDataset, samples: int, place: Path) -> None:
    """Check a case, and store what the fingerprint needs from it.

    Args:
        case: the case.
        dataset: the contents of `dataset.json`.
        samples: number of foreground intensities to draw.
        place: the .npz file to write.

    Raises:
        UserError: the case is not usable; the message says why.
    """
    _require_one_grid(case)
    reader = determine_reader_writer_from_dataset_json(dataset.content, case.images[0], verbose=False)
    _require_nnunets_consent(case, dataset, reader)
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


def _require_nnunets_consent(case: TrainingCase, dataset: RawDataset, reader: type) -> None:
    """Run nnU-Net's check. nnU-Net prints what is wrong with a case; here it becomes the error message.

    Raises:
        UserError: with the text that nnU-Net printed.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        agreed = verify_labels(case.label, reader, list(dataset.labels.integers))
        agreed = check_cases(list(case.images), case.label, len(dataset.channels), reader) and agreed
    if not agreed:
        text = re.sub(r"np\.\w+\(([^()]*)\)", r"\1", printed.getvalue())  # np.int64(3) is 3
        raise UserError(" ".join(text.split()))


def _require_one_grid(case: TrainingCase) -> None:
    """Refuse files on different grids. nnU-Net only prints a warning, and also accepts truncated files.

    Raises:
        UserError: a file cannot be read, or is on another grid than the first.
    """
    first, *others = (read_volume(Path(image)) for image in case.images)
    for other in (*others, read_labels(Path(case.label))):
        check_same_grid(first, other)


def _is_of(place: Path, case: TrainingCase, samples: int) -> bool:
    """Whether an analysis of the current files of this case exists."""
    try:
        with np.load(place, allow_pickle=False) as known:
            return int(known["samples"]) == samples and known["signature"].tolist() == case.signature()
    except (OSError, ValueError, KeyError):
        return False


def _require_volumes(summary: dict[str, Any], dataset: str) -> None:
    """Refuse 2D images. nnU-Net plans only a 2D network for them."""
    slices = np.median(summary["shapes_after_crop"], axis=0).min()
    if slices <= 1:
        raise UserError(f"The images of {dataset} are 2D: they have one slice. stunet's networks are 3D.")


def _summary(places: Sequence[Path], dataset: str) -> dict[str, Any]:
    """The fingerprint of all cases together, as nnU-Net computes and names it.

    Raises:
        UserError: no label map has foreground.
    """
    known = [np.load(place, allow_pickle=False) for place in places]
    if not sum(case["channel_0"].size for case in known):
        raise UserError(
            f"No label map of {dataset} has any foreground: all voxels are background or the ignore label. nnU-Net "
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
