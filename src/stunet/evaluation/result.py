"""The result of an evaluation: scores, means, intervals, comparison with another system, and worst cases."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from stunet.evaluation.bootstrap import Bootstrap
from stunet.evaluation.comparison import Comparison, compare
from stunet.evaluation.dice import none_if_nan
from stunet.evaluation.mapped import MappedReport
from stunet.evaluation.metrics import METRICS
from stunet.evaluation.report import EvaluationReport
from stunet.evaluation.summary import MetricSummary, summarise
from stunet.evaluation.worst import WorstCase, worst_cases


@dataclass(frozen=True)
class Opponent:
    """The system to compare with.

    Attributes:
        system: name of the system.
        report: its scores of the same cases.
        summaries: one per metric.
        comparisons: first system minus this one, one per metric.
    """

    system: str
    report: EvaluationReport
    summaries: tuple[MetricSummary, ...]
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class EvaluationResult:
    """The content of tables and files.

    Attributes:
        system: name of the evaluated system.
        report: its scores.
        bootstrap: settings of the intervals.
        summaries: one per metric.
        opponent: the system to compare with, if any.
        worst: its worst cases, the worst first.
        mapped: the same scores with the mapping, if another dataset's targets were scored.
    """

    system: str
    report: EvaluationReport
    bootstrap: Bootstrap
    summaries: tuple[MetricSummary, ...]
    opponent: Opponent | None = None
    worst: tuple[WorstCase, ...] = ()
    mapped: MappedReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON; nan becomes null."""
        content: dict[str, Any] = {
            "system": self.system,
            "cases": len(self.report.cases),
            "intervals": {"method": "percentile bootstrap over cases", **asdict(self.bootstrap)},
            "metrics": _metrics(self.report, self.summaries),
        }
        if self.opponent is not None:
            content["against"] = {
                "system": self.opponent.system,
                "metrics": _metrics(self.opponent.report, self.opponent.summaries),
                "differences": {comparison.name: _comparison(comparison) for comparison in self.opponent.comparisons},
            }
        if self.mapped is not None:
            content["dataset"] = self.mapped.to_dict()
        if self.worst:
            content["worst_cases"] = [asdict(case) for case in self.worst]
        plain: dict[str, Any] = _without_nan(content)
        return plain


def conclude(
    system: str,
    report: EvaluationReport,
    against: tuple[str, EvaluationReport] | None = None,
    bootstrap: Bootstrap | None = None,
    with_groups: bool = False,
    worst: int = 0,
) -> EvaluationResult:
    """Compute means, intervals, tests and worst cases of an evaluation.

    Args:
        system: name of the evaluated system.
        report: its scores.
        against: name and scores of another system for the same cases.
        bootstrap: settings of the intervals.
        with_groups: include the groups of Table 3.
        worst: number of worst cases to list.

    Raises:
        UserError: `with_groups` is set, but no label belongs to a group.
    """
    bootstrap = bootstrap or Bootstrap()
    metrics = report.config.metrics
    summaries = tuple(summarise(report, metric, bootstrap, with_groups) for metric in metrics)
    opponent = None
    if against is not None:
        name, other = against
        theirs = tuple(summarise(other, metric, bootstrap, with_groups) for metric in metrics)
        comparisons = tuple(compare(report, other, metric, bootstrap) for metric in metrics)
        opponent = Opponent(name, other, theirs, comparisons)
    return EvaluationResult(system, report, bootstrap, summaries, opponent, worst_cases(report, worst))


def _metrics(report: EvaluationReport, summaries: tuple[MetricSummary, ...]) -> dict[str, Any]:
    return {summary.name: _metric(report, summary) for summary in summaries}


def _metric(report: EvaluationReport, summary: MetricSummary) -> dict[str, Any]:
    metric = METRICS[summary.name]
    content: dict[str, Any] = {
        "title": metric.heading,
        "empty_cases": f"absent from both: null and not averaged; absent from one: {metric.if_missed}",
    }
    if metric.has_tolerance:
        tolerances = report.config.tolerances
        content["tolerance_source"] = tolerances.source
        content["tolerance_mm"] = {name: tolerances.of(name) for name in report.names.values()}
    means = asdict(summary)
    content |= {key: means[key] for key in ("mean", "per_label", "groups") if key != "groups" or summary.groups}
    content["per_case"] = {
        case.case: {name: case.scores[summary.name].get(label, math.nan) for label, name in report.names.items()}
        for case in report.cases
    }
    return content


def _comparison(comparison: Comparison) -> dict[str, Any]:
    differences = asdict(comparison)
    return {
        "test": "Wilcoxon signed-rank, two-sided; per label corrected by Holm's method",
        "mean": differences["mean"],
        "per_label": differences["per_label"],
    }


def _without_nan(content: Any) -> Any:
    """Convert to JSON: lists instead of tuples, and None instead of nan, at any depth."""
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return none_if_nan(content) if isinstance(content, float) else content
