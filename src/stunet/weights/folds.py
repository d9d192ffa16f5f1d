"""The folds of a model folder of nnU-Net v2 or `stunet train`."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from stunet.errors import FileError
from stunet.files import existing_file, read_json_object
from stunet.weights.checkpoint import Checkpoint, read_checkpoint

logger = logging.getLogger(__name__)

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
"""The checkpoint of a fold is the first of these that exists. A fold without the first is unfinished."""

Fold = int | str
"""A fold of nnU-Net's cross-validation, 0 to 4, or "all"."""


def read_folds(folder: Path, folds: Sequence[Fold] | None = None) -> list[Checkpoint]:
    """Read the checkpoints of a model folder of nnU-Net v2 or `stunet train`, with the folder's plans.

    Args:
        folder: the folder with `plans.json`.
        folds: which folds to read, e.g. (0, 1) or ("all",); None reads every finished fold. Unfinished folds are used
            only if requested, which is logged.

    Raises:
        UserError: a file or fold is missing or damaged.
    """
    if not folder.is_dir():
        raise FileError(f"There is no folder {folder}.")
    for name in ("plans.json", "dataset.json"):
        if not (folder / name).is_file():
            raise FileError(
                f"{folder} is not a model folder of nnU-Net v2: {name} is missing. Give the folder with "
                "plans.json, dataset.json and fold_0, e.g. .../nnUNetTrainer__nnUNetPlans__3d_fullres."
            )
    plans, dataset = (read_json_object(existing_file(folder / name)) for name in ("plans.json", "dataset.json"))
    if "configurations" not in plans:
        raise FileError(f"{folder / 'plans.json'} is not a plans file of nnU-Net v2: it has no 'configurations'.")
    return [
        replace(read_checkpoint(path), plans=plans, dataset=dataset, fold=fold)
        for fold, path in _fold_checkpoints(folder, folds).items()
    ]


def _fold_checkpoints(folder: Path, folds: Sequence[Fold] | None) -> dict[str, Path]:
    """The checkpoint of each requested fold, or of all finished folds; numbered folds take precedence over "all"."""
    trained: dict[str, Path] = {}
    for name in reversed(CHECKPOINTS):
        trained |= {path.parent.name.removeprefix("fold_"): path for path in folder.glob(f"fold_*/{name}")}
    if not trained:
        raise FileError(f"{folder} has no trained fold: there is no fold_*/{CHECKPOINTS[0]}.")
    asked = _finished(folder, trained) if folds is None else list(map(str, folds))
    if not asked or set(asked) - set(trained):
        absent = ", ".join(sorted(set(asked) - set(trained)))
        raise FileError(f"{folder} has no trained fold {absent}; it has {', '.join(sorted(trained))}.")
    _log_unfinished(folder, trained, asked)
    return {fold: trained[fold] for fold in asked}


def _finished(folder: Path, trained: Mapping[str, Path]) -> list[str]:
    finished = [fold for fold, path in sorted(trained.items()) if path.name == CHECKPOINTS[0]]
    if not finished:
        raise FileError(
            f"{folder} has no finished fold: {', '.join(sorted(trained))} has only {CHECKPOINTS[1]}. To use it "
            f"anyway, choose it: -f {min(trained)}"
        )
    return [fold for fold in finished if fold != "all"] or finished


def _log_unfinished(folder: Path, trained: Mapping[str, Path], used: Collection[str]) -> None:
    for fold, path in sorted(trained.items()):
        if path.name != CHECKPOINTS[0]:
            what = f"{path.name} is used" if fold in used else "it is left out"
            logger.warning("Fold %s of %s is unfinished (it has no %s); %s.", fold, folder, CHECKPOINTS[0], what)
