"""Find pairs of prediction and reference, and read, check and score a pair."""

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
from stunet.imaging.label_array import count_labels
from stunet.imaging.volume import Volume

AFFINE_TOLERANCE_MM = 1e-2
"""Two grids are the same if no entry of their affines differs by more than this."""

Renumber = Callable[[np.ndarray], np.ndarray]
"""Maps labels of any shape to other labels of the same shape; raises ValueError for unknown labels."""


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
    """Settings of an evaluation.

    Attributes:
        metrics: names in `METRICS`; the first one ranks the cases.
        tolerances: tolerances of the normalised surface distance.
        renumber_prediction: maps the predictions' labels to the scored labels; None if they are the same.
        renumber_reference: the same for the references.
        members: label to the values that belong to its structure, if there are others than the label (regions).
        ignored: value of ignored voxels in the reference; None if there is none.
        workers: cases at a time; each needs memory for two label maps.
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
    """The scores of one case: metric to label to value, nan if the label is absent from prediction and reference."""

    case: str
    scores: Mapping[str, Mapping[int, float]]

    @property
    def dsc(self) -> Mapping[int, float]:
        """Label to DSC, if measured."""
        return self.scores["dsc"]

    def filled(self, labels: Sequence[int]) -> "CaseScore":
        """A copy with nan for missing labels among `labels`."""
        full = {
            metric: {label: values.get(label, math.nan) for label in labels} for metric, values in self.scores.items()
        }
        return CaseScore(self.case, full)

    def mean_of(self, metric: str) -> float:
        """The mean over the labels that are in the prediction or the reference."""
        return mean_ignoring_nan(list(self.scores[metric].values()))

    @property
    def mean(self) -> float:
        """`mean_of` the first metric."""
        return self.mean_of(next(iter(self.scores)))


def pair_files(prediction: Path, reference: Path) -> list[CasePair]:
    """Pair two files, or the files with the same names in two folders, sorted by name.

    Raises:
        UserError: files are missing, a reference has no prediction, or a folder has two files with the same name.
    """
    if prediction.is_dir() != reference.is_dir():
        raise FileError(
            f"Give two files or two folders; {prediction} and {reference} are a file and a folder, or one is missing."
        )
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
    """Label maps by name. A.nii and A.nii.gz have the same name, which is an error."""
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if is_image_file(path)):
        other = found.setdefault(without_suffix(path), path)
        if other is not path:
            raise FileError(f"{folder}: {other.name} and {path.name} have the same case name; keep one of them.")
    return found


def read_pair(pair: CasePair, config: EvaluationConfig) -> tuple[Volume, Volume]:
    """Read prediction and reference, renumber them, and check that they are on the same grid.

    Raises:
        UserError: a file is missing or unreadable, a label cannot be renumbered, or the grids differ.
    """
    prediction = _read(pair.prediction, config.renumber_prediction)
    reference = _read(pair.reference, config.renumber_reference)
    if prediction.shape != reference.shape:
        wrong = f"has {prediction.shape} voxels, but its reference {pair.reference} has {reference.shape} (Z, Y, X)"
    elif np.abs(prediction.affine - reference.affine).max() > AFFINE_TOLERANCE_MM:
        wrong = f"and its reference {pair.reference} have different positions in space (their affines differ)"
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
    """Score one case.

    Args:
        pair: files of the case.
        names: label to name of the scored structures, without background; None scores every label that occurs, named by
            its number.
        config: settings.

    Raises:
        UserError: as for `read_pair`, or a label is not in `names`.
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
            raise FileError(f"{path} contains the value {listed(foreign)}, which is not among the labels to score.")
    tolerances = {label: config.tolerances.of(name) for label, name in names.items()}
    arrays = prediction.array[0], reference.array[0]
    scores = score_structures(*arrays, reference.spacing, tolerances, config.metrics, config.members)
    return CaseScore(pair.case, scores)


def _without_ignored(prediction: Volume, reference: Volume, ignored: int) -> tuple[Volume, Volume]:
    """Set both to background where the reference has the ignored value."""
    is_counted = reference.array != ignored
    counted = (replace(volume, array=volume.array * is_counted) for volume in (prediction, reference))
    return next(counted), next(counted)


def _values(labels: Volume) -> set[int]:
    """The labels that occur, without background."""
    counts = count_labels(labels.array[0], int(labels.array.max(initial=0)) + 1)
    return set(np.flatnonzero(counts).tolist()) - {0}
