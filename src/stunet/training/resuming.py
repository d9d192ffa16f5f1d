"""Whether a run can be gone on with, and from where."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stunet.errors import UserError
from stunet.training import checkpoints
from stunet.training.checkpoints import Checkpoint
from stunet.training.recipes import Recipe, spoken
from stunet.training.start import Start

RECORD_NAME = "stunet_run.json"

NNUNET_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")
"""What nnU-Net's tools read; we only write them."""

SUMMARY = "validation/summary.json"
"""What nnU-Net's validation, a run's last act, leaves in the fold's folder."""

LONGER = "epochs"
"""The one number of a recipe that may change when a run is resumed: it may grow."""


@dataclass(frozen=True)
class Origin:
    """What a resumed run must have in common with the run as it was started."""

    recipe: Recipe
    seed: int
    start: Start | None = None


def checkpoint_to_resume(fold_folder: Path, resume: bool, asked: Origin) -> Checkpoint | None:
    """The newest checkpoint if the run is to be resumed, else None.

    Raises:
        UserError: a run that is there and not to be resumed, or to be resumed and not there, finished, or started with
            another recipe, seed or model.
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
    _require_same_start(fold_folder, asked.start)
    _require_same_recipe(fold_folder, asked)
    is_validated = _is_newer(fold_folder / SUMMARY, fold_folder / NNUNET_CHECKPOINTS[0])
    if is_trained(fold_folder, checkpoint.state.epoch, asked.recipe.epochs) and is_validated:
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


def _started_settings(fold_folder: Path) -> dict[str, Any]:
    """What the run was started with; nothing where nnUNetv2_train left no record."""
    record = fold_folder / RECORD_NAME
    return json.loads(record.read_text())["settings"] if record.is_file() else {}


def _require_same_start(fold_folder: Path, start: Start | None) -> None:
    """A resumed run takes its weights from its checkpoint; --from only tells which run is meant."""
    record = _started_settings(fold_folder)
    asked = None if start is None else asdict(start)
    if record and record.get("start") != asked:
        raise UserError(
            f"The run in {fold_folder} was started with {_spoken_start(record.get('start'))}, not with "
            f"{_spoken_start(asked)}. Give the same to resume it: its weights then come from its checkpoint."
        )


def _spoken_start(start: Mapping[str, Any] | None) -> str:
    if start is None:
        return "random weights"
    options = ("--keep-head" if start["keep_head"] else "", "--divide-channels" if start["divide_channels"] else "")
    return " ".join(("--from", start["model"], *filter(None, options)))


def _require_same_recipe(fold_folder: Path, origin: Origin) -> None:
    """A resumed run goes on as it was started.

    More epochs may be asked for: the learning rate then follows the longer schedule from here on.
    """
    settings = _started_settings(fold_folder)
    started = {**settings.get("recipe", {}), "seed": settings["seed"]} if settings else {}
    asked = json.loads(json.dumps({**asdict(origin.recipe), "seed": origin.seed}))
    for name, value in started.items():
        is_longer = name == LONGER and asked[LONGER] > value
        if asked.get(name) != value and not is_longer:
            raise UserError(
                f"The run in {fold_folder} was started with {name.replace('_', ' ')} {spoken(value)}, "
                f"not {spoken(asked.get(name))}. Give the same to resume it."
            )
