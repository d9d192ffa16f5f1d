"""Readable errors for failed training steps: a loss that is not finite, killed processes, too little memory."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stunet.errors import FileError, NotEnoughMemoryError, OutputError, UserError
from stunet.inference.batching import is_lack_of_memory

SIGNS_OF_KILLED_PROCESSES = ("DataLoader worker", "background worker")
"""In the messages of torch about a loading process, and of nnU-Net about a process that loads or writes."""

CPU_ALLOCATOR = "DefaultCPUAllocator"
"""In torch's message when a CPU runs out of memory. torch has no exception class for this."""


def require_finite(loss: float, step: int, cases: Sequence[str], checkpoint: Path | None) -> None:
    """Stop a training whose loss is no longer finite.

    Args:
        loss: of the step.
        step: its number, from 1.
        cases: in its batch.
        checkpoint: the last good one, or None.

    Raises:
        UserError: the loss is infinite or NaN. The message names the step, the cases, and the checkpoint to continue
            from.
    """
    if math.isfinite(loss):
        return
    good = f"The last good checkpoint is {checkpoint}; continue from it (--resume)" if checkpoint else "Start again"
    raise UserError(
        f"The loss is {loss} in step {step} (cases {', '.join(cases)}). {good} once the cause is fixed: "
        "voxels of these cases that are not finite, or a learning rate that is too high (give a lower --lr)."
    )


@contextmanager
def explaining_lack_of_memory(remedy: str | Callable[[], str]) -> Iterator[None]:
    """Turn torch's errors about exhausted memory into a readable message.

    Args:
        remedy: what to try, or a function that returns it. It is called only if memory runs out.

    Raises:
        NotEnoughMemoryError: memory ran out.
    """
    try:
        yield
    except RuntimeError as error:
        is_of_gpu = is_lack_of_memory(error)
        if not is_of_gpu and CPU_ALLOCATOR not in str(error):
            raise
        whose = "The GPU's" if is_of_gpu else "This machine's"
        sentence = remedy if isinstance(remedy, str) else remedy()
        raise NotEnoughMemoryError(f"{whose} memory is too small for this step. {sentence}") from error


@contextmanager
def explaining_killed_processes() -> Iterator[None]:
    """Turn the errors of torch and nnU-Net about a killed process into a readable message.

    Raises:
        NotEnoughMemoryError: a process that loads images or writes label maps was killed.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in SIGNS_OF_KILLED_PROCESSES):
            raise
        raise NotEnoughMemoryError(
            "A process that loads images or writes label maps was killed, most likely because memory ran out. Continue "
            "from the last checkpoint with --resume and fewer --workers."
        ) from error


@contextmanager
def explaining_files(folder: Path) -> Iterator[None]:
    """Turn a failure to read or write a file inside nnU-Net into a readable message.

    Args:
        folder: the output folder, named if the error names no file.

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
