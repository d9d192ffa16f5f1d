"""Whether a run can be gone on with, and from where."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stunet.errors import UserError
from stunet.training import checkpoints
from stunet.training.checkpoints import Checkpoint
from stunet.training.recipes import Recipe, spoken

RECORD_NAME = "stunet_run.json"

NNUNET_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")
"""What nnU-Net's tools read; we only write them."""

SUMMARY = "validation/summary.json"
"""What nnU-Net's validation, a run's last act, leaves in the fold's folder."""

LONGER = "epochs"
"""The one number of a recipe that may change when a run is resumed: it may grow."""


def checkpoint_to_resume(fold_folder: Path, resume: bool, recipe: Recipe, seed: int) -> Checkpoint | None:
    """The newest checkpoint if the run is to be resumed, else None.

    Raises:
        UserError: a run that is there and not to be resumed, or to be resumed and not there, finished, or started with
            another recipe.
    """
    checkpoint = checkpoints.newest(fold_folder)
    nnunets = [name for name in NNUNET_CHECKPOINTS if (fold_folder / name).is_file()]
    if not resume:
        if checkpoint or nnunets:
            there = checkpoint.folder.name if checkpoint else nnunets[0]
            raise UserError(f"{fold_folder} already holds {there}. Go on with --resume, or move it away.")
        return None
    if checkpoint is None:
        raise UserError(_nothing_to_resume(fold_folder, nnunets))
    _require_same_recipe(fold_folder, recipe, seed)
    is_validated = _is_newer(fold_folder / SUMMARY, fold_folder / NNUNET_CHECKPOINTS[0])
    if is_trained(fold_folder, checkpoint.state.epoch, recipe.epochs) and is_validated:
        raise UserError(
            f"The run in {fold_folder} is finished; there is nothing to resume. Give more --epochs to go on."
        )
    return checkpoint


def _nothing_to_resume(fold_folder: Path, nnunets: list[str]) -> str:
    if not nnunets:
        return f"There is nothing to resume in {fold_folder}. Leave --resume out to start."
    return (
        f"{fold_folder} holds nnU-Net's {nnunets[0]} alone, and opening it could run code that is hidden in it. "
        "If you trust it, go on with nnU-Net's own command: nnUNetv2_train ... --c (see `stunet doctor --nnunet`)."
    )


def is_trained(fold_folder: Path, epochs_done: int, epochs: int) -> bool:
    """Whether only the validation may be missing. A final model of fewer epochs may be there: it is older."""
    state = fold_folder / checkpoints.NEWEST / checkpoints.STATE
    return epochs_done >= epochs and _is_newer(fold_folder / NNUNET_CHECKPOINTS[0], state)


def _is_newer(file: Path, other: Path) -> bool:
    return file.is_file() and not (other.is_file() and other.stat().st_mtime > file.stat().st_mtime)


def _started(fold_folder: Path) -> dict[str, Any]:
    """The recipe and the seed that the run was started with; nothing where nnUNetv2_train left no record."""
    record = fold_folder / RECORD_NAME
    if not record.is_file():
        return {}
    settings = json.loads(record.read_text())["settings"]
    return {**settings.get("recipe", {}), "seed": settings["seed"]}


def _asks_for_more_epochs(fold_folder: Path, recipe: Recipe) -> bool:
    return recipe.epochs > _started(fold_folder).get(LONGER, recipe.epochs)


def _require_same_recipe(fold_folder: Path, recipe: Recipe, seed: int) -> None:
    """A resumed run goes on as it was started.

    More epochs may be asked for: the learning rate then follows the longer schedule from here on.
    """
    asked = json.loads(json.dumps({**asdict(recipe), "seed": seed}))
    for name, started in _started(fold_folder).items():
        is_longer = name == LONGER and _asks_for_more_epochs(fold_folder, recipe)
        if asked.get(name) != started and not is_longer:
            raise UserError(
                f"The run in {fold_folder} was started with {name.replace('_', ' ')} {spoken(started)}, "
                f"not {spoken(asked.get(name))}. Give the same to resume it."
            )
