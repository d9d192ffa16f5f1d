"""Sharded training checkpoints: each rank writes its parts to its own file. Any number of ranks can read them.

torch.distributed.checkpoint does the work: it tracks which rank has which part, writes copies once, and reshards for
the ranks that read. Its default storage uses pickle, which could run code when read. Here its storage for safetensors
files is used, whose headers are JSON. `stunet.weights.training_checkpoint` reads the same folder without any ranks.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor

from stunet.errors import FileError, OutputError, UserError
from stunet.training.checkpoint_folder import (
    NEWEST,
    TrainingCheckpoint,
    TrainingState,
    empty_slot,
    rolling,
    write_state,
)
from stunet.training.parallel import items_of_all_ranks, wait_for_all_ranks
from stunet.weights.model_card import Shape
from stunet.weights.model_file import StateDict, mismatches, shapes_of
from stunet.weights.training_checkpoint import OPTIMIZER_SEPARATOR

TESTED_TORCH = "2.13"
"""The safetensors storage needs a newer torch than everything else here."""


def save(run_folder: Path, weights: StateDict, optimizer: StateDict, state: TrainingState) -> Path:
    """Like `checkpoint_folder.save`, but called by all ranks together; each writes its parts.

    Returns:
        The checkpoint's folder.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    with ExitStack() as stack:
        opened = [str(stack.enter_context(rolling(run_folder)))] if dist.get_rank() == 0 else []
        (folder,) = map(Path, items_of_all_ranks(opened))
        write_shards(folder, {**weights, **optimizer})
        if dist.get_rank() == 0:
            write_state(folder, state)
    wait_for_all_ranks()
    return run_folder / NEWEST


def load_into(checkpoint: TrainingCheckpoint, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Like `checkpoint_folder.load_into`, but called by all ranks together; each reads its parts.

    Raises:
        UserError: the checkpoint is from another network.
    """
    parameters, kept = dict(network.named_parameters()), {}
    for full_name, shape in shapes_in(checkpoint.folder).items():
        name, separator, key = full_name.partition(OPTIMIZER_SEPARATOR)
        if separator and name not in parameters:
            raise FileError(f"The checkpoint's optimiser belongs to another network: it contains {full_name}.")
        if separator:
            kept[full_name] = optimizer.state[parameters[name]][key] = empty_slot(optimizer, parameters[name], shape)
    read_shards(checkpoint.folder, {**network.state_dict(), **kept})


# Tensors


def write_shards(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors by name. All ranks must call it; it returns when all have written.

    Args:
        folder: an existing empty folder.
        tensors: sharded tensors (DTensor) are written part by part, each by a rank that has it; others by one rank.

    Raises:
        UserError: the folder cannot be written.
    """
    detached = {name: tensor.detach() for name, tensor in tensors.items()}
    contiguous = {name: t if isinstance(t, DTensor) else t.contiguous() for name, t in detached.items()}
    writer = _storage("HuggingFaceStorageWriter")(str(folder), save_distributed=True)
    try:
        dcp.save(contiguous, storage_writer=writer, no_dist=not dist.is_initialized())
    except (CheckpointException, OSError) as error:
        raise OutputError(f"{folder}: cannot be written ({_cause(error)}).") from error


def read_shards(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Fill tensors by name from what any number of ranks wrote. All ranks must call it.

    Args:
        folder: written by `write_shards`, or any folder with safetensors files of whole tensors.
        tensors: sharded for this number of ranks, or whole.

    Raises:
        UserError: parts are missing, damaged, or of other shapes.
    """
    found = shapes_in(folder)
    table = mismatches(shapes_of(tensors), {name: shape for name, shape in found.items() if name in tensors})
    if table:
        raise FileError(f"The checkpoint {folder} is of another network:\n{table}")
    reader = _storage("HuggingFaceStorageReader")(str(folder))
    wanted: dict[str, Any] = {name: tensor.detach() for name, tensor in tensors.items()}
    try:
        dcp.load(wanted, storage_reader=reader, no_dist=not dist.is_initialized())
    except (CheckpointException, OSError, SafetensorError, AssertionError) as error:
        raise FileError(f"{folder} cannot be read ({_cause(error)}).") from error


def shapes_in(folder: Path) -> dict[str, Shape]:
    """The shape of every tensor in a folder, from the headers of its files.

    Raises:
        UserError: no files, or damaged ones.
    """
    if not any(folder.glob("*.safetensors")):
        raise FileError(f"{folder} contains no checkpoint files (*.safetensors).")
    try:
        metadata = _storage("HuggingFaceStorageReader")(str(folder)).read_metadata()
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{folder}: a part of the checkpoint is damaged ({error}).") from error
    return {name: tuple(entry.size) for name, entry in metadata.state_dict_metadata.items()}


def _storage(name: str) -> Any:
    if not hasattr(dcp, name):
        raise UserError(
            f"torch {torch.__version__} cannot write or read the checkpoints of several ranks; update it (tested with "
            f"{TESTED_TORCH})."
        )
    return getattr(dcp, name)


def _cause(error: BaseException) -> str:
    """The first sentence of the error on the first rank that failed."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    return str(error).splitlines()[0] if str(error) else type(error).__name__
