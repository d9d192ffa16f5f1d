"""What a table of results shows: means of labels, groups and all, each with its interval."""

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
        value: nan if no case has one.
        interval: what it could be with other cases of the kind.
        cases: how many say something.
    """

    value: float
    interval: Interval
    cases: int


@dataclass(frozen=True)
class MetricSummary:
    """One metric of one system.

    Attributes:
        name: of the metric in `METRICS`.
        mean: of `per_label`, nnU-Net's foreground mean.
        per_label: name of the label to its mean.
        groups: the columns of Table 3, where they were asked for.
    """

    name: str
    mean: Estimate
    per_label: Mapping[str, Estimate]
    groups: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def metric(self) -> Metric:
        """What was measured."""
        return METRICS[self.name]


def summarise(report: EvaluationReport, metric: str, bootstrap: Bootstrap, with_groups: bool = False) -> MetricSummary:
    """Means and intervals of one metric.

    Args:
        report: scores of all cases.
        metric: its name.
        bootstrap: how intervals are found.
        with_groups: also for the groups of Table 3.

    Raises:
        UserError: groups of labels that belong to none.
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
    """A metric's scores, resampled once for all the means that are asked for.

    Attributes:
        report, metric, bootstrap: what is resampled, and how.
        columns: name of a label to its column.
        scores: (cases, labels), nan where a label is absent from both.
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
