"""Compare two systems on the same cases: differences, their intervals, and tests of significance."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from stunet.evaluation.bootstrap import Bootstrap, Interval, mean_over_labels
from stunet.evaluation.dice import mean_ignoring_nan
from stunet.evaluation.report import EvaluationReport
from stunet.evaluation.summary import ResampledScores


@dataclass(frozen=True)
class Difference:
    """The first system's mean minus the second's.

    Attributes:
        value: the difference; nan if one of them has no mean.
        interval: interval from resampling the same cases for both systems.
        p_value: p value of Wilcoxon's two-sided signed-rank test over the cases where both have a score; nan if there
            are none. For labels it is corrected for their number (Holm).
        cases: number of these cases.
    """

    value: float
    interval: Interval
    p_value: float
    cases: int


@dataclass(frozen=True)
class Comparison:
    """One metric of two systems.

    Attributes:
        name: name of the metric.
        mean: difference of the foreground means; its test uses the means of the cases.
        per_label: name of the label to the difference of its means.
    """

    name: str
    mean: Difference
    per_label: Mapping[str, Difference]


def compare(first: EvaluationReport, second: EvaluationReport, metric: str, bootstrap: Bootstrap) -> Comparison:
    """Test one system against another.

    Args:
        first: scores of one system.
        second: scores of the other system, for the same cases.
        metric: name of the metric.
        bootstrap: settings of the intervals.

    Raises:
            ValueError: the reports have different cases.
    """
    if [case.case for case in first.cases] != [case.case for case in second.cases]:
        raise ValueError("the two reports have different cases")
    both = {**second.names, **first.names}
    names = {label: both[label] for label in sorted(both)}
    ours, theirs = (ResampledScores(replace(report, names=names), metric, bootstrap) for report in (first, second))
    columns = [_difference(ours, theirs, column) for column in range(len(names))]
    corrected = holm([column.p_value for column in columns])
    per_label = {
        name: replace(column, p_value=p) for name, column, p in zip(names.values(), columns, corrected, strict=True)
    }
    return Comparison(metric, _difference_of_means(ours, theirs), per_label)


def _difference(ours: ResampledScores, theirs: ResampledScores, column: int) -> Difference:
    """The difference for one label."""
    first, second = ours.scores[:, column], theirs.scores[:, column]
    value = mean_ignoring_nan(first.tolist()) - mean_ignoring_nan(second.tolist())
    p_value, cases = wilcoxon(first, second)
    interval = ours.bootstrap.interval(ours.label_means[:, column] - theirs.label_means[:, column], cases)
    return Difference(value, interval, p_value, cases)


def _difference_of_means(ours: ResampledScores, theirs: ResampledScores) -> Difference:
    systems = (ours, theirs)
    p_value, cases = wilcoxon(*(np.array(list(s.report.case_means(s.metric).values())) for s in systems))
    differences = mean_over_labels(ours.label_means) - mean_over_labels(theirs.label_means)
    value = ours.report.foreground_mean(ours.metric) - theirs.report.foreground_mean(theirs.metric)
    return Difference(value, ours.bootstrap.interval(differences, cases), p_value, cases)


def wilcoxon(first: np.ndarray, second: np.ndarray) -> tuple[float, int]:
    """The two-sided p value of Wilcoxon's signed-rank test and the number of pairs.

    Pairs with a nan are left out. The p value is 1 if the systems never differ, and nan if there are no pairs.
    """
    is_pair = np.isfinite(first) & np.isfinite(second)
    differences = (first - second)[is_pair]
    if not differences.size:
        return math.nan, 0
    if not differences.any():
        return 1.0, len(differences)
    return float(stats.wilcoxon(differences).pvalue), len(differences)


def holm(p_values: list[float]) -> list[float]:
    """P values corrected for multiple tests (Holm 1979); nan stays nan and does not count as a test.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    corrected, highest = list(p_values), 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        corrected[place] = highest
    return corrected
