"""Failures of a training step, in words: a loss that is no number, and memory that does not suffice."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from stunet.errors import NotEnoughMemoryError, UserError

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
    good = f"The last good checkpoint is {checkpoint}; go on from it" if checkpoint else "Start again"
    raise UserError(
        f"The loss is {loss} in step {step}, whose batch holds {', '.join(cases)}. {good} once the cause is gone: "
        "voxels of these cases that are not finite, or a learning rate that is too high (--lr)."
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
