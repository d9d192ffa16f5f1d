"""Failures of a training step, in words: a loss that is no number, and memory that does not suffice."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from stunet.errors import FileError, NotEnoughMemoryError, OutputError, UserError

SIGNS_OF_KILLED_PROCESSES = ("DataLoader worker", "background worker")
"""In torch's message on a process that loads, and in nnU-Net's on one that loads or writes."""

CPU_ALLOCATOR = "DefaultCPUAllocator"
"""Named in the message with which torch says that a CPU's memory is used up, for which it has no exception."""


def require_finite(loss: float, step: int, cases: Sequence[str], checkpoint: Path | None) -> None:
    """Stop a training that has become useless.

    Args:
        loss: of the step.
        step: its number, from 1.
        cases: in its batch.
        checkpoint: the last good one; None where there is none.

    Raises:
        UserError: the loss is infinite or not a number; the message says in which step, on which cases, and from where
            the training can go on.
    """
    if math.isfinite(loss):
        return
    good = f"The last good checkpoint is {checkpoint}; go on from it (--resume)" if checkpoint else "Start again"
    raise UserError(
        f"The loss is {loss} in step {step}, whose batch holds {', '.join(cases)}. {good} once the cause is gone: "
        "voxels of these cases that are not finite, or a learning rate that is too high (give a lower --lr)."
    )


@contextmanager
def explaining_lack_of_memory(what_fits: Callable[[], str]) -> Iterator[None]:
    """Turn what torch raises when memory is used up into a sentence.

    Args:
        what_fits: says what to try; asked only then.

    Raises:
        NotEnoughMemoryError: memory was used up.
    """
    try:
        yield
    except RuntimeError as error:
        is_of_gpu = isinstance(error, torch.OutOfMemoryError)
        if not is_of_gpu and CPU_ALLOCATOR not in str(error):
            raise
        whose = "The GPU's" if is_of_gpu else "This machine's"
        raise NotEnoughMemoryError(f"{whose} memory does not suffice for this step. {what_fits()}") from error


@contextmanager
def explaining_killed_processes() -> Iterator[None]:
    """Turn what torch and nnU-Net raise when one of their processes was killed into a sentence.

    Raises:
        NotEnoughMemoryError: a process that loads images or writes label maps was killed.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in SIGNS_OF_KILLED_PROCESSES):
            raise
        raise NotEnoughMemoryError(
            "A process that loads images or writes label maps was killed; most often memory has run out. Go on from "
            "the last checkpoint with --resume, and give a smaller number of --workers."
        ) from error


@contextmanager
def explaining_files(folder: Path) -> Iterator[None]:
    """Turn the failure to read or write a file somewhere inside nnU-Net into a sentence.

    Args:
        folder: where the work writes; named where the failure names no file.

    Raises:
        FileError: a file is missing.
        OutputError: a file or folder may not be written, or the disk is full.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FileError(f"There is no file {error.filename or f'that was expected in {folder}'}.") from error
    except OSError as error:
        where, why = error.filename or folder, error.strerror or error
        raise OutputError(f"{where}: cannot be read or written ({why}); check permissions and free space.") from error
