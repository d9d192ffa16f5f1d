"""Whether a run can be resumed, and from which checkpoint."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stunet.errors import FileError, UserError
from stunet.training import checkpoint_folder
from stunet.training.checkpoint_folder import TrainingCheckpoint, TrainingState
from stunet.training.recipes import Recipe, spoken
from stunet.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

RECORD_NAME = "stunet_run.json"

NNUNET_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")
"""Checkpoints for nnU-Net's tools. We only write them."""

SUMMARY = "validation/summary.json"
"""Written to the fold's folder by nnU-Net's validation, the last part of a run."""

LONGER = "epochs"
"""The recipe's number that may increase when a run is resumed."""

FREE = "learning_rate"
"""The recipe's number that may change when a run is resumed: after a NaN loss, a lower value may be needed."""


def recorded_settings(settings: TrainingSettings, recipe: Recipe) -> dict[str, Any]:
    """The settings in a run's record: options by name, the whole recipe, and the start (None for random weights)."""
    groups = (settings.task, settings.augmentation, settings.hardware, settings.logging)
    options = {name: value for group in groups for name, value in asdict(group).items()}
    start = None if settings.start.model is None else asdict(settings.start)
    return {**options, "recipe": asdict(recipe), "start": start}


def checkpoint_to_resume(fold_folder: Path, settings: TrainingSettings, recipe: Recipe) -> TrainingCheckpoint | None:
    """The newest checkpoint if the run is to be resumed, else None.

    Raises:
        UserError: a run exists but is not to be resumed; or it is to be resumed but is missing, finished, or was
            started with another recipe, seed or model.
    """
    checkpoint = checkpoint_folder.newest(fold_folder)
    nnunets = [name for name in NNUNET_CHECKPOINTS if (fold_folder / name).is_file()]
    if not settings.task.resume:
        if checkpoint or nnunets:
            there = checkpoint.folder.name if checkpoint else nnunets[0]
            raise UserError(f"{fold_folder} already contains {there}. Continue with --resume, or move it away.")
        return None
    if checkpoint is None:
        raise FileError(_nothing_to_resume(fold_folder, nnunets))
    require_started_alike(fold_folder, settings, recipe)
    is_validated = _is_newer(fold_folder / SUMMARY, fold_folder / NNUNET_CHECKPOINTS[0])
    if is_trained(fold_folder, checkpoint.state, recipe) and is_validated:
        raise UserError(
            f"The run in {fold_folder} is finished; there is nothing to resume. Give more --epochs to continue."
        )
    return checkpoint


def _nothing_to_resume(fold_folder: Path, nnunets: list[str]) -> str:
    if not nnunets:
        return f"There is nothing to resume in {fold_folder}. Leave --resume out to start."
    return (
        f"{fold_folder} contains only nnU-Net's {nnunets[0]}, and opening it could run code that is hidden in it. "
        "If you trust it, continue with nnU-Net's own command: nnUNetv2_train ... --c (see `stunet doctor --nnunet`)."
    )


def is_trained(fold_folder: Path, state: TrainingState, recipe: Recipe) -> bool:
    """Whether only the validation may be missing. A final model of fewer epochs does not count, since it is older."""
    is_done = are_epochs_done(state.epoch, recipe.epochs, state.logging["ema_fg_dice"], recipe.patience)
    file = fold_folder / checkpoint_folder.NEWEST / checkpoint_folder.STATE
    return is_done and _is_newer(fold_folder / NNUNET_CHECKPOINTS[0], file)


def are_epochs_done(done: int, epochs: int, averages: Sequence[float], patience: int | None) -> bool:
    """Whether a training has no epochs left or has run out of patience; see `is_out_of_patience`."""
    return done >= epochs or is_out_of_patience(averages, patience)


def is_out_of_patience(averages: Sequence[float], patience: int | None) -> bool:
    """Whether the newest `patience` epochs were no better than the best before them.

    Args:
        averages: nnU-Net's moving average of the pseudo-Dice for each completed epoch.
        patience: number of epochs; None never runs out.

    >>> is_out_of_patience([0.5, 0.6, 0.6, 0.55], 2), is_out_of_patience([0.5, 0.6, 0.6, 0.61], 2)
    (True, False)
    """
    if patience is None or len(averages) <= patience:
        return False
    return max(averages[-patience:]) <= max(averages[:-patience])


def _is_newer(file: Path, other: Path) -> bool:
    return file.is_file() and not (other.is_file() and other.stat().st_mtime > file.stat().st_mtime)


def is_begun(fold_folder: Path) -> bool:
    """Whether a fold's folder has a checkpoint, ours or nnU-Net's."""
    names = (checkpoint_folder.NEWEST, checkpoint_folder.PREVIOUS, *NNUNET_CHECKPOINTS)
    return any((fold_folder / name).exists() for name in names)


def require_started_alike(fold_folder: Path, settings: TrainingSettings, recipe: Recipe) -> None:
    """Require a resumed run to have the settings of its record. nnUNetv2_train writes no record.

    The number of epochs and the learning rate may change; the schedule then continues with them from here. The weights
    come from the checkpoint; --from only identifies the run.

    Raises:
        UserError: another recipe, seed or model; the message names both values.
    """
    asked = recorded_settings(settings, recipe)
    record = fold_folder / RECORD_NAME
    if not record.is_file():
        return
    started = json.loads(record.read_text())["settings"]
    if started.get("start") != asked["start"]:
        raise UserError(
            f"The run in {fold_folder} was started with {_spoken_start(started.get('start'))}, not with "
            f"{_spoken_start(asked['start'])}. Give the same to resume it: its weights then come from its checkpoint."
        )
    numbers = json.loads(json.dumps({**asked["recipe"], "seed": asked["seed"]}))
    before = started.get("recipe", {}).get(FREE, numbers[FREE])
    if numbers[FREE] != before:
        logger.warning("The run was started with learning rate %s and continues with %s.", before, numbers[FREE])
    for name, value in {**started.get("recipe", {}), "seed": started["seed"]}.items():
        is_longer = name == LONGER and numbers[LONGER] > value
        if numbers.get(name) != value and not is_longer and name != FREE:
            raise UserError(
                f"The run in {fold_folder} was started with {name.replace('_', ' ')} {spoken(value)}, "
                f"not {spoken(numbers.get(name))}. Give the same to resume it."
            )


def _spoken_start(start: Mapping[str, Any] | None) -> str:
    if start is None:
        return "random weights"
    options = ("--keep-head" if start["keep_head"] else "", "--divide-channels" if start["divide_channels"] else "")
    return " ".join(("--from", start["model"], *filter(None, options)))
