"""Predictions scored on another dataset: both label maps are merged into the dataset's targets and then compared."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from stunet.errors import UserError
from stunet.evaluation.countings import counted_means
from stunet.evaluation.report import EvaluationReport, evaluate
from stunet.files import write_json
from stunet.imaging.formats.table import read_labels
from stunet.imaging.volume import Volume
from stunet.labels.mapping import DatasetMapping, remap_labels


@dataclass(frozen=True)
class MappedReport:
    """Scores of the targets of a dataset.

    Attributes:
        mapping: the dataset's.
        report: scores by the integers of `mapping.target_names`, of all targets.
        evaluable: names of the targets that the classes of the predictions can give.
    """

    mapping: DatasetMapping
    report: EvaluationReport
    evaluable: tuple[str, ...]

    @property
    def scores(self) -> dict[str, float]:
        """Name of an evaluable target -> mean DSC over the cases, nan if no case has it."""
        per_target = {self.report.names[label]: value for label, value in self.report.per_label.items()}
        return {name: per_target[name] for name in self.evaluable}

    @property
    def means(self) -> dict[str, float]:
        """Name of a counting -> mean DSC over its targets, see `stunet.evaluation.countings`."""
        return counted_means(self.mapping, self.scores)

    @property
    def not_evaluable(self) -> tuple[str, ...]:
        """Targets that the predictions have no class for; they score 0 where a case has them."""
        return tuple(target.name for target in self.mapping.targets if target.name not in self.evaluable)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What one should know of the scores: of the dataset, of single targets, of the number of cases."""
        of_targets = [f"{target.name}: {target.remark}." for target in self.mapping.targets if target.remark]
        found = len(self.report.cases)
        of_cases = [f"Cases scored: {found}; {self.mapping.title} has {self.mapping.cases} in the paper."]
        return (*self.mapping.remarks, *of_targets, *(of_cases if found != self.mapping.cases else ()))

    def to_dict(self) -> dict[str, Any]:
        """For JSON: what the report gives, and what the mapping adds."""
        return {
            "mapping": self.mapping.name,
            "means": {name: None if math.isnan(mean) else mean for name, mean in self.means.items()},
            "not_evaluable": list(self.not_evaluable),
            "remarks": list(self.remarks),
            **self.report.to_dict(),
        }

    def save(self, path: str | Path) -> None:
        """Write `to_dict` as JSON."""
        write_json(Path(path), self.to_dict())


def evaluate_mapped(
    prediction: str | Path, reference: str | Path, mapping: DatasetMapping, names: Sequence[str] | None
) -> MappedReport:
    """Score predictions on a dataset's own reference labels.

    Args:
        prediction: NIfTI label map, or a folder of them.
        reference: the same, with the dataset's own labels.
        mapping: the dataset's.
        names: class names of the predictions by integer, background first; None if the predictions have the dataset's
            own labels.

    Raises:
        UserError: as `evaluate`, or a label that the predictions' names or the dataset do not have.
    """
    reference_table = mapping.reference_table()
    prediction_table = reference_table if names is None else mapping.prediction_table(names)
    report = evaluate(
        prediction,
        reference,
        mapping.target_names,
        read_prediction=partial(read_merged, table=prediction_table),
        read_reference=partial(read_merged, table=reference_table),
    )
    evaluable = tuple(mapping.target_names.values()) if names is None else mapping.evaluable(names)
    return MappedReport(mapping, report, evaluable)


def read_merged(path: Path, table: Mapping[int, int]) -> Volume:
    """A label map whose labels are merged into targets.

    Args:
        path: a NIfTI file.
        table: label -> target, of `DatasetMapping.prediction_table` or `reference_table`.

    Returns:
        Volume with array (1, Z, Y, X) of uint8.

    Raises:
        UserError: as `read_labels`, or a label without an entry.
    """
    labels = read_labels(path)
    try:
        return replace(labels, array=remap_labels(labels.array, table))
    except ValueError as error:
        raise UserError(
            f"{path}: {error} in the mapping. Is it the right dataset, and the right numbering of the predictions?"
        ) from error
