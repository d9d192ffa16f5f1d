"""Whether a run can be gone on with, and from where."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stunet.errors import FileError, UserError
from stunet.training import checkpoint_folder
from stunet.training.checkpoint_folder import TrainingCheckpoint
from stunet.training.recipes import Recipe, spoken
from stunet.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

RECORD_NAME = "stunet_run.json"

NNUNET_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")
"""What nnU-Net's tools read; we only write them."""

SUMMARY = "validation/summary.json"
"""What nnU-Net's validation, a run's last act, leaves in the fold's folder."""

LONGER = "epochs"
"""The number of a recipe that may grow when a run is resumed."""

FREE = "learning_rate"
"""The number that may change when a run is resumed: a loss that is no number any more may need a lower one."""


def recorded_settings(settings: TrainingSettings, recipe: Recipe) -> dict[str, Any]:
    """What a run's record says of its settings: options by name, whole recipe, and start (None for random weights)."""
    groups = (settings.task, settings.augmentation, settings.hardware, settings.logging)
    options = {name: value for group in groups for name, value in asdict(group).items()}
    start = None if settings.start.model is None else asdict(settings.start)
    return {**options, "recipe": asdict(recipe), "start": start}


def checkpoint_to_resume(fold_folder: Path, settings: TrainingSettings, recipe: Recipe) -> TrainingCheckpoint | None:
    """The newest checkpoint if the run is to be resumed, else None.

    Raises:
        UserError: a run that is there and not to be resumed, or to be resumed and not there, finished, or started with
            another recipe, seed or model.
    """
    checkpoint = checkpoint_folder.newest(fold_folder)
    nnunets = [name for name in NNUNET_CHECKPOINTS if (fold_folder / name).is_file()]
    if not settings.task.resume:
        if checkpoint or nnunets:
            there = checkpoint.folder.name if checkpoint else nnunets[0]
            raise UserError(f"{fold_folder} already holds {there}. Go on with --resume, or move it away.")
        return None
    if checkpoint is None:
        raise FileError(_nothing_to_resume(fold_folder, nnunets))
    _require_started_alike(fold_folder, recorded_settings(settings, recipe))
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
    state = fold_folder / checkpoint_folder.NEWEST / checkpoint_folder.STATE
    return epochs_done >= epochs and _is_newer(fold_folder / NNUNET_CHECKPOINTS[0], state)


def _is_newer(file: Path, other: Path) -> bool:
    return file.is_file() and not (other.is_file() and other.stat().st_mtime > file.stat().st_mtime)


def _require_started_alike(fold_folder: Path, asked: Mapping[str, Any]) -> None:
    """A resumed run goes on as its record says that it was started; nnUNetv2_train leaves none.

    More epochs may be asked for, or another learning rate: the schedule then goes on with them from here. The weights
    come from the checkpoint; --from only tells which run is meant.
    """
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
        logger.warning("The run was started with learning rate %s and goes on with %s.", before, numbers[FREE])
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
