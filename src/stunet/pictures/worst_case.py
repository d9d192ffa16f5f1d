"""Draw the worst structure of one of an evaluation's worst cases."""

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
from stunet.imaging.affine import voxel_to_world
from stunet.imaging.formats.registry import is_image_file, read_volume, without_suffix
from stunet.imaging.volume import Volume, check_same_grid
from stunet.pictures.preview import save_preview

SURROUNDINGS_MM = 50.0
"""Margin around the structure in the picture."""


def draw_worst_case(
    worst: WorstCase, pair: CasePair, report: EvaluationReport, folder: Path, images: Path | None = None
) -> Path:
    """Draw the worst structure of a case: the prediction filled, the reference as white outlines.

    Args:
        worst: the case and its worst structure.
        pair: its files.
        report: the evaluation.
        folder: folder of the picture, created if missing.
        images: folder of the scans, named as in nnU-Net (`case_0000.nii.gz`) or like the label maps; None draws no scan
            behind the outlines.

    Returns:
        The picture, named after case and structure.

    Raises:
        UserError: the scan is missing or on another grid, or the picture cannot be written.
    """
    prediction, reference = read_pair(pair, report.config)
    black = Volume(np.zeros((1, *reference.shape), np.uint8), reference.affine, stated_spacing=reference.stated_spacing)
    scan = black if images is None else _read_scan(images, worst.case, reference)
    members = report.config.members.get(worst.label, (worst.label,))
    masks = [np.isin(labels.array[0], members) for labels in (prediction, reference)]
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
    """A part of a scan, at the same position in space."""
    affine = scan.affine.copy()
    affine[:3, 3] = voxel_to_world(scan.affine, [side.start for side in reversed(box)])
    z, y, x = box
    return Volume(scan.array[:1, z, y, x], affine, stated_spacing=scan.stated_spacing)


def _read_scan(images: Path, case: str, reference: Volume) -> Volume:
    if not images.is_dir():
        raise FileError(f"{images}: there is no such folder with scans.")
    names = (f"{case}_0000", case)
    files = {without_suffix(path): path for path in sorted(images.iterdir()) if is_image_file(path)}
    found = [files[name] for name in names if name in files]
    if not found:
        raise FileError(
            f"There is no scan of {case} in {images}; looked for {' and '.join(names)} (.nii.gz, .nii, ...)."
        )
    scan = read_volume(found[0])
    check_same_grid(reference, scan)
    return scan
