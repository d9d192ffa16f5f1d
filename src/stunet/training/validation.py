"""Validate a trained fold again, without training."""

import shutil
from pathlib import Path
from typing import Literal

from stunet.errors import FileError, UserError
from stunet.training import checkpoint_folder
from stunet.training.parallel import wait_for_all_ranks
from stunet.training.trainer import STUNetTrainer
from stunet.weights.checkpoint import read_checkpoint
from stunet.weights.model_file import StateDict, mismatches, shapes_of

FOLDERS = {"last": "validation", "best": "validation_best"}
"""Folder names within the fold's folder. The first is the one that a training writes."""


def validate_again(trainer: STUNetTrainer, which: Literal["last", "best"]) -> Path:
    """Run nnU-Net's own validation with the weights of a checkpoint.

    Args:
        trainer: initialised.
        which: the last checkpoint, or the one with the best moving average of the pseudo-Dice.

    Returns:
        The folder with the predictions and their `summary.json`. It replaces an older one once it is complete.

    Raises:
        UserError: the network is sharded over several GPUs, or there is no such checkpoint.
    """
    if trainer.is_sharded:
        raise UserError("--validate-only reads the whole network: add --strategy ddp, or leave --gpus out.")
    fold = Path(trainer.output_folder)
    weights, mirror_axes = _read(fold, which)
    network = trainer.bare_network
    if table := mismatches(shapes_of(network.state_dict()), shapes_of(weights)):
        raise FileError(f"The {which} checkpoint in {fold} is of another network:\n{table}")
    network.load_state_dict(weights)
    trainer.inference_allowed_mirroring_axes = mirror_axes or None  # type: ignore[assignment]  # as nnU-Net's loading
    partial, complete = fold / f".{FOLDERS[which]}.partial", fold / FOLDERS[which]
    trainer.output_folder = str(partial)  # nnU-Net creates `validation` in it
    try:
        trainer.perform_actual_validation()
    finally:
        trainer.output_folder = str(fold)
    if trainer.process.is_first:
        shutil.rmtree(complete, ignore_errors=True)
        (partial / FOLDERS["last"]).rename(complete)
        partial.rmdir()
    wait_for_all_ranks()
    return complete


def _read(fold: Path, which: Literal["last", "best"]) -> tuple[StateDict, tuple[int, ...]]:
    """Weights, and the axes (0, 1, 2 = Z, Y, X) that were mirrored in training."""
    newest = checkpoint_folder.newest(fold) if which == "last" else None
    if newest is not None:
        return newest.weights, tuple(newest.state.mirror_axes)
    file = fold / ("checkpoint_final.pth" if which == "last" else "checkpoint_best.pth")
    if not file.is_file():
        raise FileError(f"{fold} has no {which} checkpoint ({file.name}). Train the fold first.")
    checkpoint = read_checkpoint(file)
    return checkpoint.state_dict, checkpoint.mirror_axes
