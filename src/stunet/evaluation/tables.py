"""The tables of an evaluation: means, differences to another system, worst cases, and notes on how to read them."""

import math

from stunet.evaluation.bootstrap import Interval
from stunet.evaluation.comparison import Comparison, Difference
from stunet.evaluation.metrics import METRICS, Metric
from stunet.evaluation.result import EvaluationResult, Opponent
from stunet.evaluation.summary import Estimate, MetricSummary
from stunet.evaluation.text_tables import TextTable

ABSENT = "absent"
"""Shown as the mean of a label that no case has."""

LEAST_P = 0.001
"""Smaller p values are shown as smaller than this."""


def tables(result: EvaluationResult) -> list[TextTable]:
    """All tables of an evaluation."""
    made = [_means(result)]
    if result.mapped is not None:
        means = ((name, ABSENT if math.isnan(mean) else f"{mean:.4f}") for name, mean in result.mapped.means.items())
        title = f"DSC on {result.mapped.mapping.title}, by which targets are counted"
        made.append(TextTable(title, ("targets", "mean"), tuple(means)))
    if result.opponent is not None:
        pairs = zip(result.summaries, result.opponent.summaries, result.opponent.comparisons, strict=True)
        made += [_differences(result.system, result.opponent, *pair) for pair in pairs]
    if result.worst:
        metric = METRICS[result.report.config.metrics[0]]
        rows = tuple((w.case, _value(w.mean, metric), w.structure, _value(w.score, metric)) for w in result.worst)
        made.append(TextTable("Worst cases", ("case", f"mean {metric.heading}", "worst label", metric.heading), rows))
    return made


def _means(result: EvaluationResult) -> TextTable:
    by_metric = [_mean_cells(summary) for summary in result.summaries]
    rows = tuple((row[0][0], *(text for _, text in row)) for row in zip(*by_metric, strict=True))
    metrics = [summary.metric for summary in result.summaries]
    titles = ", ".join(metric.title for metric in metrics)
    shown = f"mean [{result.bootstrap.confidence:.0%} interval]"
    title = f"{titles} of {result.system}, {_cases(len(result.report.cases))}, {shown}"
    return TextTable(title, ("label", *(metric.heading for metric in metrics)), rows)


def _mean_cells(summary: MetricSummary) -> list[tuple[str, str]]:
    """Name and mean of each row, as text: labels, groups, all."""
    groups = [(f"group: {name}", estimate) for name, estimate in summary.groups.items()]
    estimates = [*summary.per_label.items(), *groups, ("mean", summary.mean)]
    return [
        (name, _value(estimate.value, summary.metric) + _interval(estimate.interval, summary.metric))
        for name, estimate in estimates
    ]


def _differences(
    system: str, opponent: Opponent, ours: MetricSummary, theirs: MetricSummary, comparison: Comparison
) -> TextTable:
    def row(name: str, first: Estimate, second: Estimate, difference: Difference) -> tuple[str, ...]:
        """The row of a structure or the mean: both systems, their difference and its p value."""
        values = (_value(estimate.value, ours.metric) for estimate in (first, second))
        interval = _interval(difference.interval, ours.metric, signed=True)
        return name, *values, f"{_value(difference.value, ours.metric, signed=True)}{interval}", _p(difference.p_value)

    rows = [
        *(row(name, ours.per_label[name], theirs.per_label[name], d) for name, d in comparison.per_label.items()),
        row("mean", ours.mean, theirs.mean, comparison.mean),
    ]
    title = f"{ours.metric.heading} against {opponent.system}, {_cases(comparison.mean.cases)}"
    return TextTable(title, ("label", system, opponent.system, "difference", "p"), tuple(rows))


def _interval(interval: Interval, metric: Metric, signed: bool = False) -> str:
    """Empty if there is no interval."""
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


def notes(result: EvaluationResult) -> list[str]:
    """Notes on the numbers: empty cases, tolerances, intervals and tests."""
    said = []
    for metric in (summary.metric for summary in result.summaries):
        said.append(
            f"{metric.title}: a label absent from prediction and reference is not counted; if absent from one, it "
            f"counts {metric.if_missed}."
        )
        if metric.has_tolerance:
            said.append(f"{metric.title}: {result.report.config.tolerances.told(result.report.names.values())}.")
    if result.report.config.ignored is not None:
        said.append(f"Voxels with the value {result.report.config.ignored} (ignore) in the reference are left out.")
    bootstrap = result.bootstrap
    said.append(f"Intervals: percentile bootstrap over cases, {bootstrap.resamples} resamples, seed {bootstrap.seed}.")
    if result.opponent is not None:
        said.append(
            "p: Wilcoxon's two-sided signed-rank test over cases; for labels it is corrected for their number by "
            "Holm's method."
        )
    return [*said, *(result.mapped.remarks if result.mapped is not None else ())]
