"""Summarise scores for tables: means of labels, groups and all, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from stunet.evaluation.bootstrap import Bootstrap, Interval, mean_over_labels
from stunet.evaluation.groups import ALL, classes_by_group, group_means
from stunet.evaluation.metrics import METRICS, Metric
from stunet.evaluation.report import EvaluationReport


@dataclass(frozen=True)
class Estimate:
    """A mean over cases.

    Attributes:
        value: the mean; nan if no case has a score.
        interval: confidence interval for other cases of the same kind.
        cases: number of cases with a score.
    """

    value: float
    interval: Interval
    cases: int


@dataclass(frozen=True)
class MetricSummary:
    """One metric of one system.

    Attributes:
        name: name of the metric in `METRICS`.
        mean: mean of `per_label`, nnU-Net's foreground mean.
        per_label: name of the label to its mean.
        groups: columns of Table 3, if requested.
    """

    name: str
    mean: Estimate
    per_label: Mapping[str, Estimate]
    groups: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def metric(self) -> Metric:
        """The metric with this name."""
        return METRICS[self.name]


def summarise(report: EvaluationReport, metric: str, bootstrap: Bootstrap, with_groups: bool = False) -> MetricSummary:
    """Compute means and intervals of one metric.

    Args:
        report: scores of all cases.
        metric: name of the metric.
        bootstrap: settings of the intervals.
        with_groups: include the groups of Table 3.

    Raises:
        UserError: `with_groups` is set, but no label belongs to a group.
    """
    resampled = ResampledScores(report, metric, bootstrap)
    means = dict(zip(report.names.values(), report.label_means(metric).values(), strict=True))
    groups: dict[str, Estimate] = {}
    if with_groups:
        members = classes_by_group(means)
        members[ALL] = [name for of_group in members.values() for name in of_group]
        groups = {group: resampled.estimate(mean, members[group]) for group, mean in group_means(means).items()}
    return MetricSummary(
        metric,
        resampled.estimate(report.foreground_mean(metric), list(means)),
        {name: resampled.estimate(mean, [name]) for name, mean in means.items()},
        groups,
    )


class ResampledScores:
    """A metric's scores, resampled once for all requested means.

    Attributes:
        report, metric, bootstrap: the arguments.
        columns: name of a label to its column.
        scores: (cases, labels), nan if a label is absent from both.
        label_means: (resamples, labels).
    """

    def __init__(self, report: EvaluationReport, metric: str, bootstrap: Bootstrap):
        self.report, self.metric, self.bootstrap = report, metric, bootstrap
        self.columns = {name: column for column, name in enumerate(report.names.values())}
        self.scores = report.matrix(metric)
        self.label_means = bootstrap.label_means(self.scores)

    def estimate(self, value: float, names: Sequence[str]) -> Estimate:
        """The mean of some labels' means."""
        columns = [self.columns[name] for name in names]
        cases = int(np.isfinite(self.scores[:, columns]).any(axis=1).sum())
        interval = self.bootstrap.interval(mean_over_labels(self.label_means[:, columns]), cases)
        return Estimate(value, interval, cases)
