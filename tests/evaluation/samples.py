"""Evaluations of a few synthetic cases."""

import math

from stunet.evaluation.bootstrap import Bootstrap
from stunet.evaluation.case_scores import CaseScore, EvaluationConfig
from stunet.evaluation.report import EvaluationReport
from stunet.evaluation.result import EvaluationResult, conclude

NAMES = {1: "liver", 2: "kidney_left", 3: "aorta"}

SCORES = {
    "s1": {"dsc": {1: 0.9, 2: 0.8, 3: math.nan}, "hd95": {1: 4.0, 2: 8.0, 3: math.nan}},
    "s2": {"dsc": {1: 0.7, 2: 0.0, 3: math.nan}, "hd95": {1: 9.0, 2: 300.0, 3: math.nan}},
    "s3": {"dsc": {1: 0.95, 2: 0.85, 3: math.nan}, "hd95": {1: 2.0, 2: 5.0, 3: math.nan}},
}


def report(better_by: float = 0.0, metrics: tuple[str, ...] = ("dsc", "hd95")) -> EvaluationReport:
    """Three cases, none with an aorta."""
    cases = tuple(
        CaseScore(case, {m: {label: score + better_by for label, score in scores[m].items()} for m in metrics})
        for case, scores in SCORES.items()
    )
    return EvaluationReport(NAMES, cases, EvaluationConfig(metrics))


def result(worst: int = 2) -> EvaluationResult:
    """One system against another, with groups and worst cases."""
    return conclude("ours", report(0.01), ("theirs_1", report()), Bootstrap(200), with_groups=True, worst=worst)
