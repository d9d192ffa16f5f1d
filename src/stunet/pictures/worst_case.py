"""A picture of the worst structure of one of the worst cases of an evaluation."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from stunet.errors import FileError
from stunet.evaluation.case_scores import CasePair, read_pair
from stunet.evaluation.metrics import METRICS
from stunet.evaluation.report import EvaluationReport
from stunet.evaluation.worst import WorstCase
from stunet.files import made_folder
from stunet.imaging.formats.registry import SUFFIXES, read_volume
from stunet.imaging.volume import Volume, check_same_grid, voxel_to_world
from stunet.pictures.preview import save_preview

SURROUNDINGS_MM = 50.0
"""The picture shows so much around the structure."""


def draw_worst_case(
    worst: WorstCase, pair: CasePair, report: EvaluationReport, folder: Path, images: Path | None = None
) -> Path:
    """Draw the worst structure of a case: the prediction filled, the reference as white outlines.

    Args:
        worst: the case and its worst structure.
        pair: its files.
        report: the evaluation.
        folder: of the picture, made where missing.
        images: folder of the scans, named as nnU-Net does (`case_0000.nii.gz`) or as the label maps; None: no scan
            behind the outlines.

    Returns:
        The picture, named after case and structure.

    Raises:
        UserError: a scan that is missing or on another grid, or a picture that cannot be written.
    """
    prediction, reference = read_pair(pair, report.config)
    black = Volume(np.zeros((1, *reference.shape), np.uint8), reference.affine, stated_spacing=reference.stated_spacing)
    scan = black if images is None else _read_scan(images, worst.case, reference)
    masks = [labels.array[0] == worst.label for labels in (prediction, reference)]
    box = _box_around(masks[0] | masks[1], reference.spacing)
    predicted, true = (np.where(mask[box], worst.label, 0) for mask in masks)
    metric = METRICS[report.config.metrics[0]]
    score = f"{worst.score:.{metric.decimals}f} {metric.unit}".rstrip()
    title = f"{metric.title} {score}: {worst.structure}, {worst.case}"
    path = made_folder(folder) / f"{worst.case}_{worst.structure.replace('/', '-').replace(' ', '_')}.png"
    save_preview(path, _cut(scan, box), predicted, {worst.label: worst.structure}, true, title=title)
    return path


def _box_around(mask_ZYX: np.ndarray, spacing: Sequence[float]) -> tuple[slice, ...]:
    (tight,) = ndimage.find_objects(mask_ZYX.astype(np.uint8))
    margins = [math.ceil(SURROUNDINGS_MM / mm) for mm in spacing]
    return tuple(slice(max(0, side.start - n), side.stop + n) for side, n in zip(tight, margins, strict=True))


def _cut(scan: Volume, box: tuple[slice, ...]) -> Volume:
    """A part of a scan, at its place in space."""
    affine = scan.affine.copy()
    affine[:3, 3] = voxel_to_world(scan.affine, [side.start for side in reversed(box)])
    z, y, x = box
    return Volume(scan.array[:1, z, y, x], affine, stated_spacing=scan.stated_spacing)


def _read_scan(images: Path, case: str, reference: Volume) -> Volume:
    names = [f"{case}{channel}{suffix}" for channel in ("_0000", "") for suffix in SUFFIXES]
    found = [images / name for name in names if (images / name).is_file()]
    if not found:
        raise FileError(f"There is no scan of {case} in {images}; looked for {', '.join(names)}.")
    scan = read_volume(found[0])
    check_same_grid(reference, scan)
    return scan
