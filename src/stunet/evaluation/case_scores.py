"""The cases that are scored: which files belong together, and one pair of them read, checked and measured."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stunet.errors import FileError, listed
from stunet.evaluation.dice import mean_ignoring_nan
from stunet.evaluation.metrics import score_structures
from stunet.evaluation.tolerances import Tolerances
from stunet.imaging.formats.registry import SUFFIXES, is_image_file, read_labels, without_suffix
from stunet.imaging.volume import Volume, count_labels

AFFINE_TOLERANCE_MM = 1e-2
"""Two grids are the same if no entry of their affines differs by more."""

Renumber = Callable[[np.ndarray], np.ndarray]
"""Labels of any shape to other labels of that shape; raises ValueError for a label that it does not know."""


@dataclass(frozen=True)
class CasePair:
    """A prediction and its reference.

    Attributes:
        case: the name of both files without suffix.
        prediction: label map.
        reference: label map.
    """

    case: str
    prediction: Path
    reference: Path


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured, and how.

    Attributes:
        metrics: names in `METRICS`; the first one ranks the cases.
        tolerances: of the normalised surface distance.
        renumber_prediction: brings the predictions' labels to those that are scored; None if they are that already.
        renumber_reference: the same for the references.
        members: label to the values that lie in its structure, where that is not the label alone (regions).
        ignored: value of the reference whose voxels count for nothing; None if there is none.
        workers: cases at a time; each holds two label maps in memory.
    """

    metrics: tuple[str, ...] = ("dsc",)
    tolerances: Tolerances = field(default_factory=Tolerances)
    renumber_prediction: Renumber | None = None
    renumber_reference: Renumber | None = None
    members: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    ignored: int | None = None
    workers: int = 1


@dataclass(frozen=True)
class CaseScore:
    """One case: metric to label to value, nan where the label is absent from prediction and reference."""

    case: str
    scores: Mapping[str, Mapping[int, float]]

    @property
    def dsc(self) -> Mapping[int, float]:
        """Label to DSC, where it was measured."""
        return self.scores["dsc"]

    def filled(self, labels: Sequence[int]) -> "CaseScore":
        """The same with nan for those of `labels` that it does not have."""
        full = {
            metric: {label: values.get(label, math.nan) for label in labels} for metric, values in self.scores.items()
        }
        return CaseScore(self.case, full)

    def mean_of(self, metric: str) -> float:
        """Mean over the labels that are in the prediction or in the reference."""
        return mean_ignoring_nan(list(self.scores[metric].values()))

    @property
    def mean(self) -> float:
        """`mean_of` the first metric."""
        return self.mean_of(next(iter(self.scores)))


def pair_files(prediction: Path, reference: Path) -> list[CasePair]:
    """A file and a file, or the files of the same name in two folders, in order of name.

    Raises:
        UserError: nothing there, or a reference without its prediction.
    """
    if prediction.is_dir() != reference.is_dir():
        raise FileError(f"Give two files or two folders; {prediction} and {reference} are one of each, or missing.")
    if not prediction.is_dir():
        return [CasePair(without_suffix(reference), prediction, reference)]
    references, predictions = _label_maps(reference), _label_maps(prediction)
    if not references:
        raise FileError(f"There is no label map in {reference} (no file that ends in {', '.join(SUFFIXES)}).")
    missing = [case for case in references if case not in predictions]
    if missing:
        number = f"{len(missing)} of {len(references)}"
        raise FileError(f"{number} references have no prediction in {prediction}: {listed(missing)}.")
    return [CasePair(case, predictions[case], path) for case, path in references.items()]


def _label_maps(folder: Path) -> dict[str, Path]:
    return {without_suffix(path): path for path in sorted(folder.iterdir()) if is_image_file(path)}


def read_pair(pair: CasePair, config: EvaluationConfig) -> tuple[Volume, Volume]:
    """Prediction and reference, renumbered, on one grid.

    Raises:
        UserError: a file that is missing or unreadable, a label that cannot be renumbered, or grids that differ.
    """
    prediction = _read(pair.prediction, config.renumber_prediction)
    reference = _read(pair.reference, config.renumber_reference)
    if prediction.shape != reference.shape:
        wrong = f"has {prediction.shape} voxels, its reference {pair.reference} {reference.shape} (Z, Y, X)"
    elif np.abs(prediction.affine - reference.affine).max() > AFFINE_TOLERANCE_MM:
        wrong = f"and its reference {pair.reference} lie differently in space (their affines differ)"
    else:
        return prediction, reference
    raise FileError(f"{pair.prediction} {wrong}. Bring the prediction to the reference's grid first.")


def _read(path: Path, renumber: Renumber | None) -> Volume:
    volume = read_labels(path)
    if renumber is None:
        return volume
    try:
        return Volume(renumber(volume.array), volume.affine, source=volume.source, stated_spacing=volume.stated_spacing)
    except ValueError as error:
        raise FileError(f"{path}: {error}.") from error


def score_case(pair: CasePair, names: Mapping[int, str] | None, config: EvaluationConfig) -> CaseScore:
    """Measure one case.

    Args:
        pair: its files.
        names: label to name, background left out, of what is scored; None: every label that occurs, named by itself.
        config: what is measured.

    Raises:
        UserError: as for `read_pair`, and labels that `names` does not hold.
    """
    prediction, reference = read_pair(pair, config)
    if config.ignored is not None:
        prediction, reference = _without_ignored(prediction, reference, config.ignored)
    found = {path: _values(volume) for path, volume in ((pair.prediction, prediction), (pair.reference, reference))}
    if names is None:
        names = {value: str(value) for value in sorted(set().union(*found.values()))}
    known = {value for label in names for value in config.members.get(label, (label,))}
    for path, values in found.items():
        foreign = sorted(values - known)
        if foreign:
            raise FileError(
                f"{path} holds the value {listed(foreign)}, for which there is no name among those to score."
            )
    tolerances = {label: config.tolerances.of(name) for label, name in names.items()}
    arrays = prediction.array[0], reference.array[0]
    scores = score_structures(*arrays, reference.spacing, tolerances, config.metrics, config.members)
    return CaseScore(pair.case, scores)


def _without_ignored(prediction: Volume, reference: Volume, ignored: int) -> tuple[Volume, Volume]:
    """Both with background wherever the reference has the ignored value."""
    is_counted = reference.array != ignored
    counted = (replace(volume, array=volume.array * is_counted) for volume in (prediction, reference))
    return next(counted), next(counted)


def _values(labels: Volume) -> set[int]:
    """The labels that occur, without background."""
    counts = count_labels(labels.array[0], int(labels.array.max(initial=0)) + 1)
    return set(np.flatnonzero(counts).tolist()) - {0}
