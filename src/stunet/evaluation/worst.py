"""The worst cases of an evaluation, which say more than its mean, and pictures of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from stunet.errors import UserError
from stunet.evaluation.case_scores import CasePair, CaseScore, read_pair
from stunet.evaluation.metrics import METRICS
from stunet.evaluation.report import EvaluationReport
from stunet.files import made_folder
from stunet.imaging.formats.table import SUFFIXES, read_volume
from stunet.imaging.preview import save_preview
from stunet.imaging.volume import Volume, check_same_grid, voxel_to_world

SURROUNDINGS_MM = 50.0
"""Of a structure, that its picture shows."""


@dataclass(frozen=True)
class WorstCase:
    """A case and what is worst in it, by the first metric of the report.

    Attributes:
        case: its name.
        mean: over its labels.
        label: the one with the worst score.
        structure: that label's name.
        score: that label's.
    """

    case: str
    mean: float
    label: int
    structure: str
    score: float


def worst_cases(report: EvaluationReport, count: int) -> tuple[WorstCase, ...]:
    """The cases with the worst means, the worst first; those without any label are left out."""
    metric = report.config.metrics[0]
    sign = 1 if METRICS[metric].is_higher_better else -1
    means = report.case_means(metric)
    cases = [case for case in report.cases if not math.isnan(means[case.case])]
    ordered = sorted(cases, key=lambda case: sign * means[case.case])
    return tuple(_worst_of(case, means[case.case], report, sign) for case in ordered[:count])


def _worst_of(case: CaseScore, mean: float, report: EvaluationReport, sign: int) -> WorstCase:
    scores = case.scores[report.config.metrics[0]]
    known = [label for label, score in scores.items() if not math.isnan(score)]
    label = min(known, key=lambda label: sign * scores[label])
    return WorstCase(case.case, mean, label, report.names[label], scores[label])


def picture_name(worst: WorstCase) -> str:
    """The file name of a picture.

    >>> picture_name(WorstCase("s0011", 0.5, 40, "liver", 0.1))
    's0011_liver.png'
    """
    return f"{worst.case}_{worst.structure.replace('/', '-').replace(' ', '_')}.png"


def draw_worst_case(
    worst: WorstCase, pair: CasePair, report: EvaluationReport, folder: Path, images: Path | None = None
) -> Path:
    """Draw the worst structure of a case: the prediction filled, the reference as white outlines.

    Args:
        worst: which.
        pair: its files.
        report: the evaluation.
        folder: of the picture, made where missing.
        images: folder of the scans, named as nnU-Net does (`case_0000.nii.gz`) or as the label maps; None: no scan
            behind the outlines.

    Returns:
        The picture.

    Raises:
        UserError: a scan that is missing or on another grid, or a picture that cannot be written.
    """
    prediction, reference = read_pair(pair, report.config)
    scan = _black(reference) if images is None else _scan(images, worst.case, reference)
    masks = [labels.array[0] == worst.label for labels in (prediction, reference)]
    box = _box_around(masks[0] | masks[1], reference.spacing)
    predicted, true = (np.where(mask[box], worst.label, 0) for mask in masks)
    path = made_folder(folder) / picture_name(worst)
    save_preview(path, _cut(scan, box), predicted, {worst.label: worst.structure}, true, title=_title(worst, report))
    return path


def _title(worst: WorstCase, report: EvaluationReport) -> str:
    metric = METRICS[report.config.metrics[0]]
    score = f"{worst.score:.{metric.decimals}f} {metric.unit}".rstrip()
    return f"{metric.title} {score}: {worst.structure}, {worst.case}"


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


def _black(reference: Volume) -> Volume:
    return Volume(np.zeros((1, *reference.shape), np.uint8), reference.affine, stated_spacing=reference.stated_spacing)


def _scan(images: Path, case: str, reference: Volume) -> Volume:
    names = [f"{case}{channel}{suffix}" for channel in ("_0000", "") for suffix in SUFFIXES]
    found = [images / name for name in names if (images / name).is_file()]
    if not found:
        raise UserError(f"There is no scan of {case} in {images}; looked for {', '.join(names)}.")
    scan = read_volume(found[0])
    check_same_grid(reference, scan)
    return scan
