"""How well a result agrees with a label map that the user has. Done in the helper's process."""

from pathlib import Path

import numpy as np

from stunet.errors import FileError
from stunet.evaluation.dice import none_if_nan
from stunet.evaluation.metrics import score_structures
from stunet.imaging.formats.registry import read_labels, write_labels
from stunet.imaging.volume import check_same_grid
from stunet.serve.answers import ClassScore
from stunet.serve.own_voxels import require_own_voxels
from stunet.serve.saved_result import read_on_viewer_grid
from stunet.serve.stored_scan import images_in

REFERENCE = "reference.nii.gz"

TOLERANCE_MM = 1.0
"""Of the normalised surface distance, which is not asked for."""


def compare(job_folder: Path, upload: Path) -> list[ClassScore]:
    """Score a result by a label map with the same integers, and keep the map for the viewer.

    Raises:
        UserError: no label map, or one on another grid; the sentence names no file of the server.
    """
    from stunet.serve.wording import without_paths

    segmentation = read_on_viewer_grid(job_folder)
    try:
        images = images_in(upload)
        if len(images) != 1:
            raise FileError("A reference is one label map: NIfTI, NRRD, MetaImage or MGH.")
        require_own_voxels(images[0])
        reference = read_labels(images[0])
        check_same_grid(segmentation.scan, reference)
    except FileError as error:
        sentence = without_paths(without_paths(str(error), upload), job_folder)
        raise FileError(sentence.replace("The scan", "The reference", 1)) from None
    write_labels(reference.array[0], segmentation.scan, job_folder / REFERENCE)
    tolerances = dict.fromkeys((label for label in segmentation.names if label), TOLERANCE_MM)
    scores = score_structures(
        segmentation.labels,
        reference.array[0],
        segmentation.scan.spacing,
        tolerances,
        ("dsc", "hd95"),
        segmentation.members,
    )
    return [
        ClassScore(name, none_if_nan(scores["dsc"][label]), _distance(scores["hd95"][label], scores["dsc"][label]))
        for label, name in segmentation.names.items()
        if label
    ]


def _distance(hd95_mm: float, dsc: float) -> float | None:
    """Without the structure in one of the two, there is no distance."""
    return float(hd95_mm) if np.isfinite(hd95_mm) and dsc > 0 else None
