"""The worst cases of an evaluation."""

import math
from dataclasses import dataclass

from stunet.evaluation.case_scores import CaseScore
from stunet.evaluation.metrics import METRICS
from stunet.evaluation.report import EvaluationReport


@dataclass(frozen=True)
class WorstCase:
    """A case and its worst label, by the first metric of the report.

    Attributes:
        case: name of the case.
        mean: mean over its labels.
        label: the label with the worst score.
        structure: name of that label.
        score: score of that label.
    """

    case: str
    mean: float
    label: int
    structure: str
    score: float


def worst_cases(report: EvaluationReport, count: int) -> tuple[WorstCase, ...]:
    """The cases with the worst means, the worst first, without cases that have no score."""
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
