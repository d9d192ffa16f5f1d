"""Score predictions on another dataset: both label maps are merged into the dataset's targets and then compared."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from stunet.evaluation.case_scores import EvaluationConfig
from stunet.evaluation.countings import counted_means
from stunet.evaluation.dice import none_if_nan
from stunet.evaluation.report import EvaluationReport, evaluate
from stunet.labels.mapping import DatasetMapping, remap_labels

METRIC = "dsc"
"""The metric of the paper's means."""


@dataclass(frozen=True)
class MappedReport:
    """Scores of the targets of a dataset.

    Attributes:
        mapping: mapping of the dataset.
        report: scores of all targets, by the integers of `mapping.target_names`; includes DSC.
        evaluable: names of the targets that the predictions have classes for.
    """

    mapping: DatasetMapping
    report: EvaluationReport
    evaluable: tuple[str, ...]

    @property
    def scores(self) -> dict[str, float]:
        """Name of an evaluable target -> mean DSC over the cases, nan if no case has it."""
        means = self.report.label_means(METRIC)
        per_target = {name: means[label] for label, name in self.report.names.items()}
        return {name: per_target[name] for name in self.evaluable}

    def cases_of(self, target: str) -> dict[str, float]:
        """Name of a case -> DSC of a target, nan if neither prediction nor reference has it."""
        labels = {name: label for label, name in self.report.names.items()}
        return {case.case: case.scores[METRIC].get(labels[target], math.nan) for case in self.report.cases}

    @property
    def means(self) -> dict[str, float]:
        """Name of a counting -> mean DSC over its targets, see `stunet.evaluation.countings`."""
        return counted_means(self.mapping, self.scores)

    @property
    def not_evaluable(self) -> tuple[str, ...]:
        """Targets that the predictions have no class for; they score 0 if a case has them."""
        return tuple(target.name for target in self.mapping.targets if target.name not in self.evaluable)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes on the scores: on the dataset, on single targets, and on the number of cases."""
        of_targets = [f"{target.name}: {target.remark}." for target in self.mapping.targets if target.remark]
        found = len(self.report.cases)
        of_cases = [f"Cases scored: {found}; {self.mapping.title} has {self.mapping.cases} in the paper."]
        return (*self.mapping.remarks, *of_targets, *(of_cases if found != self.mapping.cases else ()))

    def to_dict(self) -> dict[str, Any]:
        """What the mapping adds to the scores, for JSON; nan becomes null."""
        return {
            "mapping": self.mapping.name,
            "title": self.mapping.title,
            "means": {name: none_if_nan(mean) for name, mean in self.means.items()},
            "not_evaluable": list(self.not_evaluable),
            "remarks": list(self.remarks),
        }


def evaluate_mapped(
    prediction: str | Path,
    reference: str | Path,
    mapping: DatasetMapping,
    names: Sequence[str] | None,
    config: EvaluationConfig | None = None,
) -> MappedReport:
    """Score predictions on a dataset's own reference labels.

    Args:
        prediction: label map in any format that stunet reads, or a folder of them.
        reference: the same, with the dataset's own labels.
        mapping: mapping of the dataset.
        names: class names of the predictions by integer, background first; None if the predictions have the dataset's
            own labels.
        config: settings; the metrics must include DSC, the default.

    Raises:
        UserError: as `evaluate`, or a label is not in `names` or in the dataset.
    """
    config = merging(config or EvaluationConfig(), mapping, names)
    return as_mapped(evaluate(prediction, reference, mapping.target_names, config), mapping, names)


def merging(config: EvaluationConfig, mapping: DatasetMapping, names: Sequence[str] | None) -> EvaluationConfig:
    """Settings that merge both label maps into targets before scoring; arguments as in `evaluate_mapped`."""
    of_reference = mapping.reference_table()
    of_prediction = of_reference if names is None else mapping.prediction_table(names)
    return replace(
        config,
        renumber_prediction=partial(remap_labels, table=of_prediction),
        renumber_reference=partial(remap_labels, table=of_reference),
    )


def as_mapped(report: EvaluationReport, mapping: DatasetMapping, names: Sequence[str] | None) -> MappedReport:
    """Combine a report of merged label maps with its mapping; arguments as in `evaluate_mapped`."""
    evaluable = tuple(mapping.target_names.values()) if names is None else mapping.evaluable(names)
    return MappedReport(mapping, report, evaluable)
