"""The tables of an evaluation that people read: the means, the differences to another system, the worst cases."""

import math
from dataclasses import dataclass

from stunet.evaluation.bootstrap import Interval
from stunet.evaluation.comparison import Comparison, Difference
from stunet.evaluation.mapped import MappedReport
from stunet.evaluation.metrics import METRICS, Metric
from stunet.evaluation.result import EvaluationResult, Opponent
from stunet.evaluation.summary import Estimate, MetricSummary

ABSENT = "absent"
"""Stands for the mean of a label that is in no case."""

LEAST_P = 0.001
"""Smaller p values are told as smaller than this."""


@dataclass(frozen=True)
class Table:
    """Names and numbers as text.

    Attributes:
        title: above it.
        columns: headings.
        rows: cells; the first of each is a name.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(result: EvaluationResult) -> list[Table]:
    """All tables of an evaluation."""
    made = [_means(result)]
    if result.mapped is not None:
        made.append(_countings(result.mapped))
    if result.opponent is not None:
        for ours, theirs, comparison in zip(
            result.summaries, result.opponent.summaries, result.opponent.comparisons, strict=True
        ):
            made.append(_differences(result.system, result.opponent, ours, theirs, comparison))
    if result.worst:
        made.append(_worst(result))
    return made


def _countings(mapped: MappedReport) -> Table:
    """The mean of a dataset, counted in each way."""
    rows = tuple((name, ABSENT if math.isnan(mean) else f"{mean:.4f}") for name, mean in mapped.means.items())
    return Table(f"DSC on {mapped.mapping.title}, by which targets are counted", ("targets", "mean"), rows)


def _means(result: EvaluationResult) -> Table:
    rows = [
        *((name, [s.per_label[name] for s in result.summaries]) for name in result.report.names.values()),
        *((f"group: {name}", [s.groups[name] for s in result.summaries]) for name in result.summaries[0].groups),
        ("mean", [s.mean for s in result.summaries]),
    ]
    metrics = [summary.metric for summary in result.summaries]
    cells = (
        (name, *(_estimate(estimate, metric) for estimate, metric in zip(estimates, metrics, strict=True)))
        for name, estimates in rows
    )
    titles = ", ".join(metric.title for metric in metrics)
    shown = f"mean [{result.bootstrap.confidence:.0%} interval]"
    title = f"{titles} of {result.system}, {_cases(len(result.report.cases))}, {shown}"
    return Table(title, ("label", *(metric.heading for metric in metrics)), tuple(cells))


def _differences(
    system: str, opponent: Opponent, ours: MetricSummary, theirs: MetricSummary, comparison: Comparison
) -> Table:
    def row(name: str, first: Estimate, second: Estimate, difference: Difference) -> tuple[str, ...]:
        values = (_value(estimate.value, ours.metric) for estimate in (first, second))
        interval = _interval(difference.interval, ours.metric, signed=True)
        return name, *values, f"{_value(difference.value, ours.metric, signed=True)}{interval}", _p(difference.p_value)

    rows = [
        *(row(name, ours.per_label[name], theirs.per_label[name], d) for name, d in comparison.per_label.items()),
        row("mean", ours.mean, theirs.mean, comparison.mean),
    ]
    title = f"{ours.metric.heading} against {opponent.system}, {_cases(comparison.mean.cases)}"
    return Table(title, ("label", system, opponent.system, "difference", "p"), tuple(rows))


def _worst(result: EvaluationResult) -> Table:
    metric = METRICS[result.report.config.metrics[0]]
    rows = tuple(
        (case.case, _value(case.mean, metric), case.structure, _value(case.score, metric)) for case in result.worst
    )
    return Table("Worst cases", ("case", f"mean {metric.heading}", "worst label", metric.heading), rows)


def _estimate(estimate: Estimate, metric: Metric) -> str:
    return f"{_value(estimate.value, metric)}{_interval(estimate.interval, metric)}"


def _interval(interval: Interval, metric: Metric, signed: bool = False) -> str:
    """Nothing where there is none."""
    if math.isnan(interval.low):
        return ""
    low, high = (_value(bound, metric, signed) for bound in interval)
    return f" [{low}, {high}]"


def _value(value: float, metric: Metric, signed: bool = False) -> str:
    if math.isnan(value):
        return ABSENT
    sign = "+" if signed else ""
    return f"{value:{sign}.{metric.decimals}f}"


def _p(value: float) -> str:
    if math.isnan(value):
        return ABSENT
    return f"< {LEAST_P}" if value < LEAST_P else f"{value:.3f}"


def _cases(count: int) -> str:
    return f"{count} case" + ("s" if count != 1 else "")
