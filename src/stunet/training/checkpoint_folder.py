"""Training checkpoints: a folder of safetensors files and a JSON file. Reading them never runs code.

A single process writes two safetensors files. Processes that share a network write one each (`sharded_checkpoint.py`).
`stunet_checkpoint` is the newest checkpoint, `stunet_checkpoint_previous` the one before. Both are replaced atomically.
nnU-Net's own `.pth` files are in the same folder for nnU-Net's tools; stunet never reads them here.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from stunet.errors import FileError, OutputError, UserError
from stunet.files import write_json
from stunet.weights.model_file import StateDict, mismatches, shapes_of
from stunet.weights.training_checkpoint import OPTIMIZER_SEPARATOR, STATE_NAME, join_shards, require_all_shards

NEWEST, PREVIOUS = "stunet_checkpoint", "stunet_checkpoint_previous"

WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", STATE_NAME
"""The three files of a checkpoint written by one process."""

VERSION = 1
"""Increased when older versions could misread a checkpoint."""


@dataclass(frozen=True)
class TrainingState:
    """The progress of a training, without tensors.

    Attributes:
        epoch: number of completed epochs.
        epoch_losses: losses of the steps done so far in the current epoch.
        best_ema: highest moving average of the pseudo-Dice so far.
        logging: nnU-Net's log: for each quantity its value in each completed epoch.
        scaler: state of the gradient scaler; {} without one.
        mirror_axes: spatial axes (0, 1, 2 = Z, Y, X) that were mirrored in training.
    """

    epoch: int
    epoch_losses: list[float]
    best_ema: float | None
    logging: dict[str, list[Any]]
    scaler: dict[str, Any]
    mirror_axes: list[int]


# The optimiser's tensors by name


def optimizer_tensors(optimizer: torch.optim.Optimizer, network: nn.Module) -> StateDict:
    """The optimiser's state per parameter, keyed by the parameter's name: "head.weight::momentum_buffer"."""
    return {
        f"{name}{OPTIMIZER_SEPARATOR}{key}": value
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, network: nn.Module, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Restore what `optimizer_tensors` returned, in the parameters' memory layout.

    Raises:
        UserError: tensors of parameters that the network does not have, or of another shape.
    """
    parameters = dict(network.named_parameters())
    for full_name, tensor in tensors.items():
        name, _, key = full_name.partition(OPTIMIZER_SEPARATOR)
        if name not in parameters or tensor.shape not in (parameters[name].shape, ()):
            raise FileError(f"The checkpoint's optimiser belongs to another network: it contains {full_name}.")
        with torch.no_grad():
            optimizer.state[parameters[name]][key] = empty_slot(optimizer, parameters[name], tensor.shape).copy_(tensor)


def empty_slot(optimizer: torch.optim.Optimizer, parameter: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """A tensor for the optimiser's state of a parameter, like the parameter itself; for AdamW's step count a number.

    The step count is on the CPU, or on the parameter's device if the update is one fused kernel.
    """
    if tuple(shape) != ():
        return torch.empty_like(parameter)
    device = parameter.device if optimizer.defaults.get("fused") else torch.device("cpu")
    return torch.empty((), dtype=torch.float32, device=device)


# Writing


@contextmanager
def rolling(run_folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write a checkpoint into; afterwards it becomes the newest, and the newest the previous.

    If the process dies at any moment, a complete checkpoint remains, provided there was one before.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    temporary = run_folder / f".{NEWEST}.{os.getpid()}.partial"
    newest, previous = run_folder / NEWEST, run_folder / PREVIOUS
    try:
        for remains in run_folder.glob(f".{NEWEST}.*.partial"):
            shutil.rmtree(remains)
        temporary.mkdir(parents=True)
        yield temporary
        if newest.exists():
            shutil.rmtree(previous, ignore_errors=True)
            newest.rename(previous)
        temporary.rename(newest)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{newest}: cannot be written ({error}).") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save(run_folder: Path, weights: StateDict, optimizer: StateDict, state: TrainingState) -> Path:
    """Write a checkpoint and keep the previous one.

    Returns:
        Its folder.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    with rolling(run_folder) as folder:
        for name, tensors in ((WEIGHTS, weights), (OPTIMIZER, optimizer)):
            save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, folder / name)
        write_state(folder, state)
    return run_folder / NEWEST


def write_state(folder: Path, state: TrainingState) -> None:
    """Write the JSON file of a checkpoint, last, because it lists the other files."""
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    write_json(folder / STATE, {"version": VERSION, "files": files, **asdict(state)})


# Reading


@dataclass(frozen=True)
class TrainingCheckpoint:
    """A saved checkpoint, written by one process or by several. Its tensors are read on demand."""

    folder: Path
    state: TrainingState

    @cached_property
    def weights(self) -> StateDict:
        """The network's weights, by name."""
        return join_shards(self.folder)

    @cached_property
    def optimizer(self) -> StateDict:
        """What `optimizer_tensors` returned."""
        return join_shards(self.folder, optimizer=True)


def newest(run_folder: Path) -> TrainingCheckpoint | None:
    """The newest complete checkpoint; None if there was never one.

    Raises:
        UserError: there are checkpoints, but none is complete.
    """
    damage: list[UserError] = []
    for folder in (run_folder / NEWEST, run_folder / PREVIOUS):
        try:
            if folder.is_dir():
                return read(folder)
        except UserError as error:
            damage.append(error)
    if damage:
        raise damage[0]
    return None


def read(folder: Path) -> TrainingCheckpoint:
    """Read the checkpoint in a folder.

    Raises:
        UserError: files are missing, damaged, or of another version.
    """
    try:
        content = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise FileError(f"The checkpoint {folder} has version {content['version']}, this stunet reads {VERSION}.")
        state = TrainingState(**{field.name: content[field.name] for field in fields(TrainingState)})
    except (OSError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FileError(f"The checkpoint {folder} is damaged ({STATE}: {error}).") from error
    require_all_shards(folder)
    return TrainingCheckpoint(folder, state)


def load_into(checkpoint: TrainingCheckpoint, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load the weights into the network and the optimiser's state into the optimiser.

    Raises:
        UserError: the checkpoint is from another network.
    """
    table = mismatches(shapes_of(network.state_dict()), shapes_of(checkpoint.weights))
    if table:
        raise FileError(f"The checkpoint {checkpoint.folder} is of another network:\n{table}")
    network.load_state_dict(checkpoint.weights)
    load_optimizer_tensors(optimizer, network, checkpoint.optimizer)
