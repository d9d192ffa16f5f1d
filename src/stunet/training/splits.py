"""Check the stored split of a prepared dataset against its cases before a training starts."""

import difflib
import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from stunet.errors import FileError, UserError, listed

SPLITS_NAME = "splits_final.json"
"""nnU-Net's file name, in the folder of the preprocessed dataset."""

NUM_FOLDS = 5
"""Number of folds that nnU-Net creates if no split is stored."""

logger = logging.getLogger(__name__)

Fold = Mapping[str, Sequence[str]]
"""{"train": names of cases, "val": names of cases}."""


def require_fitting_split(folder: Path, cases: Collection[str], fold: int) -> None:
    """Refuse a fold that is not in the split, or a split with unknown cases. Log cases that are in no fold.

    Args:
        folder: of the preprocessed dataset.
        cases: the names of all preprocessed cases.
        fold: the fold to train.

    Raises:
        UserError: the message names the fold and the cases.
    """
    path = folder / SPLITS_NAME
    folds = read_split(path) if path.is_file() else None
    number = NUM_FOLDS if folds is None else len(folds)
    if fold >= number:
        raise UserError(f"There is no fold {fold}: the split of {folder.name} has {number} folds, from 0.")
    if folds is None:
        return
    problems = [sentence for index in range(number) for sentence in _problems(index, folds[index], cases)]
    if problems:
        advice = "Correct the file, or remove it for a new split if no model was trained with it."
        raise FileError("\n  ".join([f"{path} does not fit the cases of {folder.name}. {advice}", *problems]))
    _say_what_is_left_out(path, folds, cases)


def read_split(path: Path) -> list[Fold]:
    """The folds of a splits file.

    Raises:
        UserError: it cannot be read, or is not a list of folds.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [{part: [str(case) for case in fold[part]] for part in ("train", "val")} for fold in content]
    except OSError as error:
        raise FileError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(
            f"{path} is not a split of nnU-Net, which is a list of folds, each with 'train' and 'val' ({error!r})."
        ) from error


def _problems(number: int, fold: Fold, cases: Collection[str]) -> Iterator[str]:
    """Yield a sentence for each problem of a fold."""
    for part in ("train", "val"):
        if not fold[part]:
            yield f"Fold {number}: {part!r} is empty."
        unknown = sorted(set(fold[part]) - set(cases))
        if unknown:
            names = listed(_with_guess(name, cases) for name in unknown)
            yield f"Fold {number}: {part!r} names missing cases: {names}."


def _with_guess(name: str, cases: Collection[str]) -> str:
    """An unknown name, with the most similar case as a suggestion."""
    near = [case for case in cases if name.startswith((f"{case}.", f"{case}_"))]  # case.nii.gz, case_0000
    near = near or difflib.get_close_matches(name, cases, n=1, cutoff=0.9)
    return f"{name} ({near[0]}?)" if near else name


def _say_what_is_left_out(path: Path, folds: Sequence[Fold], cases: Collection[str]) -> None:
    """Log cases that are in no fold, and cases that a fold uses for both training and validation."""
    left_out = sorted(set(cases) - {case for fold in folds for part in fold.values() for case in part})
    if left_out:
        logger.warning(
            "%d of %d cases are in no fold of %s, so nothing is trained or validated on these new cases: %s. Add them "
            "to the file, or remove it for a new split; models of the old split are then not comparable.",
            len(left_out),
            len(cases),
            path,
            listed(left_out),
        )
    for number, fold in enumerate(folds):
        both = sorted(set(fold["train"]) & set(fold["val"]))
        if both:
            logger.warning("Fold %d of %s both trains and validates on: %s.", number, path, listed(both))
