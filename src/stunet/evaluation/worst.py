"""The worst cases of an evaluation, which say more than its mean, and pictures of them."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stunet.errors import UserError
from stunet.evaluation.cases import CasePair, CaseScore, read_pair
from stunet.evaluation.metrics import METRICS
from stunet.evaluation.report import EvaluationReport
from stunet.files import made_folder
from stunet.imaging.formats.table import SUFFIXES, read_volume
from stunet.imaging.preview import save_preview
from stunet.imaging.volume import Volume, check_same_grid


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
    only = [np.where(labels.array[0] == worst.label, worst.label, 0) for labels in (prediction, reference)]
    metric = METRICS[report.config.metrics[0]]
    path = made_folder(folder) / picture_name(worst)
    title = f"{worst.case}, {worst.structure}: {metric.title} {worst.score:.3f} {metric.unit}".rstrip()
    save_preview(path, scan, only[0], {worst.label: worst.structure}, only[1], title=title)
    return path


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
