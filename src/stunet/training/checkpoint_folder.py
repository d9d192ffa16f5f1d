"""Where a training stands, on disk: a folder of safetensors files and a JSON file, which nothing in it can run.

One process writes two safetensors files; of several that share a network each writes one (`sharded_checkpoint.py`).
`stunet_checkpoint` is the newest, `stunet_checkpoint_previous` the one before it. Both appear whole or not at all.
nnU-Net's own `.pth` files lie beside them for its tools; they are never read here.
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
"""The three files of a checkpoint that one process wrote."""

VERSION = 1
"""Rises when older programs could misread a checkpoint."""


@dataclass(frozen=True)
class TrainingState:
    """Where a training stands, but for its tensors.

    Attributes:
        epoch: epochs that are done.
        epoch_losses: of the steps done in the epoch after them.
        best_ema: highest moving average of the pseudo-Dice so far.
        logging: nnU-Net's log: for each quantity its value in each epoch that is done.
        scaler: state of the gradient scaler; {} where there is none.
        mirror_axes: spatial axes (0, 1, 2 = Z, Y, X) along which the network has seen mirrored copies.
    """

    epoch: int
    epoch_losses: list[float]
    best_ema: float | None
    logging: dict[str, list[Any]]
    scaler: dict[str, Any]
    mirror_axes: list[int]


# The optimiser's tensors by name


def optimizer_tensors(optimizer: torch.optim.Optimizer, network: nn.Module) -> StateDict:
    """What the optimiser keeps for each parameter, by the parameter's name: "head.weight::momentum_buffer"."""
    return {
        f"{name}{OPTIMIZER_SEPARATOR}{key}": value
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, network: nn.Module, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Give the optimiser back what `optimizer_tensors` took, laid out in memory as the parameters are.

    Raises:
        UserError: tensors for parameters that the network does not have, or of another shape.
    """
    parameters = dict(network.named_parameters())
    for full_name, tensor in tensors.items():
        name, _, key = full_name.partition(OPTIMIZER_SEPARATOR)
        if name not in parameters or tensor.shape not in (parameters[name].shape, ()):
            raise FileError(f"The checkpoint's optimiser belongs to another network: it holds {full_name}.")
        with torch.no_grad():
            optimizer.state[parameters[name]][key] = empty_slot(optimizer, parameters[name], tensor.shape).copy_(tensor)


def empty_slot(optimizer: torch.optim.Optimizer, parameter: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Room for what an optimiser keeps of a parameter: a tensor like it, or the number in which AdamW counts its steps.

    That number lies on the CPU, but beside the parameter where the update is one fused kernel.
    """
    if tuple(shape) != ():
        return torch.empty_like(parameter)
    device = parameter.device if optimizer.defaults.get("fused") else torch.device("cpu")
    return torch.empty((), dtype=torch.float32, device=device)


# Writing


@contextmanager
def rolling(run_folder: Path) -> Iterator[Path]:
    """Yields an empty folder to write a checkpoint into; then that one is the newest, and the newest is the previous.

    Whenever the process dies, one whole checkpoint is there, if one was there before.

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
    """Write a checkpoint, and keep the one before.

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
    """The JSON file of a checkpoint, once the others are there, which it names."""
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    write_json(folder / STATE, {"version": VERSION, "files": files, **asdict(state)})


# Reading


@dataclass(frozen=True)
class TrainingCheckpoint:
    """What was saved, by one process or by several; its tensors are read when they are asked for."""

    folder: Path
    state: TrainingState

    @cached_property
    def weights(self) -> StateDict:
        """The network's, by name."""
        return join_shards(self.folder)

    @cached_property
    def optimizer(self) -> StateDict:
        """What `optimizer_tensors` took."""
        return join_shards(self.folder, optimizer=True)


def newest(run_folder: Path) -> TrainingCheckpoint | None:
    """The newest checkpoint that is whole; None if there was never one.

    Raises:
        UserError: one or two are there, and none is whole.
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
    """The checkpoint in a folder.

    Raises:
        UserError: files that are missing or damaged, or of another version.
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
    """Weights into the network, and what the optimiser keeps into the optimiser.

    Raises:
        UserError: a checkpoint of another network.
    """
    table = mismatches(shapes_of(network.state_dict()), shapes_of(checkpoint.weights))
    if table:
        raise FileError(f"The checkpoint {checkpoint.folder} is of another network:\n{table}")
    network.load_state_dict(checkpoint.weights)
    load_optimizer_tensors(optimizer, network, checkpoint.optimizer)
