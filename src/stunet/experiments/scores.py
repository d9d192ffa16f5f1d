"""DSC of a trained system for each target in a table, and means over targets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stunet.evaluation.dice import mean_ignoring_nan, none_if_nan
from stunet.experiments.experiment import Expected, measured
from stunet.experiments.results import Measurement, Setting

if TYPE_CHECKING:
    from stunet.evaluation.report import EvaluationReport

ALL = "all"
"""The target for all labels together."""


@dataclass(frozen=True)
class ScoredTarget:
    """One column of a table.

    Attributes:
        name: of the column: a structure, a group of structures, or a dataset.
        labels: names of the labels to average; () means all.
        expected: the paper's value for this system, or None.
    """

    name: str = ALL
    labels: tuple[str, ...] = ()
    expected: Expected | None = None


def dsc_of_targets(
    report: "EvaluationReport", system: str, targets: Sequence[ScoredTarget], setting: Setting
) -> list[Measurement]:
    """The mean DSC of each target over its labels. The DSC of a label is the mean over the cases that have it.

    Labels that no case has do not count, as in nnU-Net. A target with only such labels has no value.

    Raises:
        ValueError: a target has a label that was not scored.
    """
    return [_dsc_of_target(report, system, target, setting) for target in targets]


def _dsc_of_target(report: "EvaluationReport", system: str, target: ScoredTarget, setting: Setting) -> Measurement:
    numbers = {name: label for label, name in report.names.items()}
    unknown = [name for name in target.labels if name not in numbers]
    if unknown:
        raise ValueError(f"{target.name} is the mean of {unknown}, which were not scored")
    labels = [numbers[name] for name in target.labels] or list(report.names)
    per_label = report.label_means("dsc")
    value = none_if_nan(mean_ignoring_nan([per_label[label] for label in labels]))
    cases = {
        case.case: none_if_nan(mean_ignoring_nan([case.dsc.get(label, math.nan) for label in labels]))
        for case in report.cases
    }
    return measured(system, "DSC", value, target.expected, target.name, setting, cases)


@dataclass(frozen=True)
class MeanOverTargets:
    """The mean of a system's DSC over several targets, if all of them were measured.

    Attributes:
        name: of the new target.
        weights: target -> weight: 1 each for a mean over datasets, the number of classes for a mean over groups.
        expected: system -> the paper's value.
        setting: only measurements with these settings are averaged.
    """

    name: str
    weights: Mapping[str, int]
    expected: Mapping[str, Expected] = field(default_factory=dict)
    setting: Setting = field(default_factory=dict)

    def __call__(self, measurements: Sequence[Measurement]) -> list[Measurement]:
        """One mean for each system and setting that have all targets."""
        rows: dict[tuple[str, str], dict[str, Measurement]] = {}
        for measurement in measurements:
            target = measurement.target or ""
            is_meant = self.setting.items() <= measurement.setting.items()
            if is_meant and measurement.metric == "DSC" and target in self.weights:
                key = (measurement.system, repr(sorted(measurement.setting.items())))
                rows.setdefault(key, {})[target] = measurement
        return [self._mean(list(row.values())) for row in rows.values() if set(row) == set(self.weights)]

    def _mean(self, row: Sequence[Measurement]) -> Measurement:
        first = row[0]
        values = [(m.value, self.weights[m.target or ""]) for m in row if m.value is not None]
        total = sum(weight for _, weight in values)
        value = sum(value * weight for value, weight in values) / total if total else None
        return measured(first.system, "DSC", value, self.expected.get(first.system), self.name, first.setting)
