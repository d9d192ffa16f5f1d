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
    resampling = _Resampling(report, metric, bootstrap)
    names = list(report.names.values())
    means = dict(zip(names, report.label_means(metric).values(), strict=True))
    return MetricSummary(
        metric,
        resampling.estimate(report.foreground_mean(metric), names),
        {name: resampling.estimate(mean, [name]) for name, mean in means.items()},
        _groups(resampling, means) if with_groups else {},
    )


def _groups(resampling: "_Resampling", means: Mapping[str, float]) -> dict[str, Estimate]:
    members = classes_by_group(means)
    members[ALL] = [name for of_group in members.values() for name in of_group]
    return {group: resampling.estimate(mean, members[group]) for group, mean in group_means(means).items()}


class _Resampling:
    """A metric's scores, resampled once for all the means that are asked for."""

    def __init__(self, report: EvaluationReport, metric: str, bootstrap: Bootstrap):
        self._columns = {name: column for column, name in enumerate(report.names.values())}
        self._scores = report.matrix(metric)
        self._bootstrap = bootstrap
        self._label_means = bootstrap.label_means(self._scores)

    def estimate(self, value: float, names: Sequence[str]) -> Estimate:
        """The mean of some labels' means."""
        columns = [self._columns[name] for name in names]
        cases = int(np.isfinite(self._scores[:, columns]).any(axis=1).sum())
        interval = self._bootstrap.interval(mean_over_labels(self._label_means[:, columns]), cases)
        return Estimate(value, interval, cases)
