"""Predictions of many cases against their references: DSC for each case, each label and all."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stunet.errors import UserError
from stunet.evaluation.dice import dice_per_label, mean_ignoring_nan
from stunet.files import write_json
from stunet.imaging.formats.table import SUFFIXES, read_labels, without_suffix

AFFINE_TOLERANCE_MM = 1e-2
"""Two grids are the same if no entry of their affines differs by more."""


@dataclass(frozen=True)
class CaseScore:
    """DSC of one case: label value to DSC, nan where the label is absent from both."""

    case: str
    dsc: dict[int, float]

    @property
    def mean(self) -> float:
        """Mean over the labels that are in the prediction or in the reference."""
        return mean_ignoring_nan(list(self.dsc.values()))


@dataclass(frozen=True)
class EvaluationReport:
    """Scores of all cases.

    Attributes:
        names: label value to name; the labels that were scored.
        cases: one score each, in order of name.
    """

    names: dict[int, str]
    cases: tuple[CaseScore, ...]

    @property
    def per_label(self) -> dict[int, float]:
        """Mean DSC of each label over the cases where it is in the prediction or in the reference."""
        return {label: mean_ignoring_nan([case.dsc[label] for case in self.cases]) for label in self.names}

    @property
    def mean(self) -> float:
        """Mean of `per_label`: nnU-Net's foreground mean."""
        return mean_ignoring_nan(list(self.per_label.values()))

    def to_dict(self) -> dict[str, Any]:
        """For JSON; nan becomes null."""
        return {
            "metric": "DSC",
            "empty_cases": "absent from both: null and not averaged; absent from one: 0",
            "mean": _number(self.mean),
            "per_label": {self.names[label]: _number(value) for label, value in self.per_label.items()},
            "cases": {
                case.case: {self.names[label]: _number(value) for label, value in case.dsc.items()}
                for case in self.cases
            },
        }

    def save(self, path: str | Path) -> None:
        """Write `to_dict` as JSON."""
        write_json(Path(path), self.to_dict())


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def evaluate(prediction: str | Path, reference: str | Path, names: dict[int, str] | None = None) -> EvaluationReport:
    """Score one file against one file, or a folder against a folder (same file names).

    Args:
        prediction: NIfTI label map, or a folder of them.
        reference: the same; in a folder, cases without a prediction are an error, not left out silently.
        names: label value to name, background left out; by default every value that occurs, named by itself.

    Raises:
        UserError: files that are missing or unreadable, grids that differ, or values that `names` does not hold.
    """
    pairs = pair_files(Path(prediction), Path(reference))
    values = {file: _values_in(file) for _, *files in pairs for file in files}
    if names is not None:
        _require_named(values, names)
    counted = names or {value: str(value) for value in sorted(set().union(*values.values()) - {0})}
    scores = tuple(_score(case, p, r, list(counted)) for case, p, r in pairs)
    return EvaluationReport(counted, scores)


def pair_files(prediction: Path, reference: Path) -> list[tuple[str, Path, Path]]:
    """Case name, predicted file and reference file, in order of name.

    Raises:
        UserError: nothing there, or a reference without its prediction.
    """
    if prediction.is_dir() != reference.is_dir():
        raise UserError(f"Give two files or two folders; {prediction} and {reference} are one of each, or missing.")
    if not prediction.is_dir():
        return [(without_suffix(reference), prediction, reference)]
    references = {without_suffix(p): p for p in sorted(reference.iterdir()) if p.name.endswith(SUFFIXES)}
    predictions = {without_suffix(p): p for p in sorted(prediction.iterdir()) if p.name.endswith(SUFFIXES)}
    if not references:
        raise UserError(f"There is no .nii or .nii.gz file in {reference}.")
    missing = [case for case in references if case not in predictions]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise UserError(f"{len(missing)} of {len(references)} references have no prediction in {prediction}: {shown}.")
    return [(case, predictions[case], path) for case, path in references.items()]


def _values_in(path: Path) -> set[int]:
    return {int(value) for value in np.unique(read_labels(path).array)}


def _require_named(values: dict[Path, set[int]], names: dict[int, str]) -> None:
    for file, found in values.items():
        foreign = sorted(found - {0, *names})
        if foreign:
            listed = ", ".join(map(str, foreign[:5])) + (", ..." if len(foreign) > 5 else "")
            raise UserError(f"{file} holds the value {listed}, for which there is no name among the labels to score.")


def _score(case: str, prediction: Path, reference: Path, labels: list[int]) -> CaseScore:
    predicted, truth = read_labels(prediction), read_labels(reference)
    if predicted.array.shape != truth.array.shape:
        raise UserError(
            f"{prediction} has {predicted.array.shape[1:]} voxels, its reference {reference} {truth.array.shape[1:]} "
            "(Z, Y, X). Bring the prediction to the reference's grid first."
        )
    if np.abs(predicted.affine - truth.affine).max() > AFFINE_TOLERANCE_MM:
        raise UserError(
            f"{prediction} and its reference {reference} lie differently in space (their affines differ). "
            "Bring the prediction to the reference's grid first."
        )
    return CaseScore(case, dice_per_label(predicted.array, truth.array, labels))
