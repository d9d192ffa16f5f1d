"""DSC of a trained system for each target that a table shows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stunet.evaluation.dice import mean_ignoring_nan
from stunet.experiments.recipe import Expected, measured
from stunet.experiments.results import Measurement, Setting

if TYPE_CHECKING:
    from stunet.evaluation.report import EvaluationReport

ALL = "all"
"""The target that stands for all labels together."""


@dataclass(frozen=True)
class Target:
    """One column of a table.

    Attributes:
        name: of the column: a structure, a group of structures, or a dataset.
        labels: names of the labels that it is the mean of; () are all.
        expected: what the paper prints for the system in question, None if nothing.
    """

    name: str = ALL
    labels: tuple[str, ...] = ()
    expected: Expected | None = None

    def without_value(self, system: str, setting: Setting) -> Measurement:
        """The paper's number alone."""
        return measured(system, "DSC", None, self.expected, self.name, setting)


def dsc_of_targets(
    report: "EvaluationReport", system: str, targets: Sequence[Target], setting: Setting
) -> list[Measurement]:
    """The mean DSC of each target over its labels, each label's being the mean over the cases that have it.

    Labels that no case has do not count, as in nnU-Net; a target of such labels alone has no value.

    Raises:
        ValueError: a target with a label that was not scored.
    """
    numbers = {name: label for label, name in report.names.items()}
    found = []
    for target in targets:
        unknown = [name for name in target.labels if name not in numbers]
        if unknown:
            raise ValueError(f"{target.name} is the mean of {unknown}, which were not scored")
        labels = [numbers[name] for name in target.labels] or list(report.names)
        value = mean_ignoring_nan([report.per_label[label] for label in labels])
        cases = {case.case: mean_ignoring_nan([case.dsc.get(n, math.nan) for n in labels]) for case in report.cases}
        found.append(
            measured(
                system,
                "DSC",
                _number(value),
                target.expected,
                target.name,
                setting,
                {case: _number(dsc) for case, dsc in cases.items()},
            )
        )
    return found


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
