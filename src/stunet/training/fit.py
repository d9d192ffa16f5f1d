"""Which batches, patches and numbers of processes fit into memory, and what to change if a step does not fit."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch

from stunet.allocator import physical_memory
from stunet.networks.registry import size_of
from stunet.networks.stunet import SIZES
from stunet.training import environment  # noqa: F401 (asks for nnU-Net before it is imported)
from stunet.training.memory_walk import Patch, TrainingStep
from stunet.training.training_memory import training_memory

PROCESS_BYTES = 500_000_000
"""Memory of a process besides its tensors: on a CPU, torch and nnU-Net themselves (bench/training_memory.py)."""

MOST_IMAGES, LONGEST_EDGE, MOST_RANKS = 256, 512, 256
"""Upper limit of the search for batch size, patch edge and number of processes."""


def needed_bytes(step: TrainingStep) -> int:
    """Memory that a process needs for a step: its tensors plus `PROCESS_BYTES`."""
    return training_memory(step).peak + PROCESS_BYTES


def fits(step: TrainingStep, available_bytes: int) -> bool:
    """Whether a step fits into this much memory."""
    return needed_bytes(step) <= available_bytes


def largest_batch(step: TrainingStep, available_bytes: int) -> int:
    """The largest batch that fits, with the step's patch and other settings; 0 if not even one image fits."""
    return _fitting(MOST_IMAGES, lambda images: replace(step, batch_size=images, accumulate=1), available_bytes)


def largest_cube(step: TrainingStep, available_bytes: int) -> Patch | None:
    """The largest cubic patch that fits, with the step's batch and other settings; None if none does."""
    multiple = max(step.window_multiple)
    cubes: list[Patch] = [(edge, edge, edge) for edge in range(2 * multiple, LONGEST_EDGE + 1, multiple)]
    fitting = _fitting(len(cubes), lambda number: replace(step, patch=cubes[number - 1]), available_bytes)
    return cubes[fitting - 1] if fitting else None


def fewest_ranks(step: TrainingStep, available_bytes: int) -> int | None:
    """The smallest number of processes (FSDP) that fit the step together; None if no number does.

    Args:
        step: as each process sees it. Its `ranks` is ignored.
        available_bytes: memory of each process.
    """
    numbers = range(1, MOST_RANKS + 1)
    return next((ranks for ranks in numbers if fits(replace(step, ranks=ranks), available_bytes)), None)


def _fitting(most: int, step_of: Callable[[int], TrainingStep], available_bytes: int) -> int:
    """The largest number from 1 to `most` whose step fits, or 0. Larger numbers must need more memory."""
    return bisect_right(range(1, most + 1), available_bytes, key=lambda number: needed_bytes(step_of(number)))


def device_bytes(device: torch.device) -> int | None:
    """The memory of a GPU, or of this machine; None if the system does not report it."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return physical_memory()


def suggest_fit(step: TrainingStep, available_bytes: int | None) -> str:
    """Suggest how to make a step fit, in plain sentences.

    Changes that do not affect the result come first. A smaller patch or network is suggested only if they are not
    enough.

    Args:
        step: a step that ran out of memory, or would.
        available_bytes: see `device_bytes`.
    """
    there_are = "" if available_bytes is None else f"; there are {_spoken(available_bytes)}"
    needed = f"This step needs about {_spoken(needed_bytes(step))}{there_are}."
    if available_bytes is None or fits(step, available_bytes):
        needed += " Other programs use the rest." if available_bytes else ""
        available_bytes = needed_bytes(step) - 1
    changes = _harmless_changes(step, available_bytes) or _harmful_changes(step, available_bytes)
    if not changes:
        return f"{needed} No smaller patch or network fits."
    spoken = (f"{options} ({_spoken(needed_bytes(changed))})" for options, changed in changes.items())
    return f"{needed} What fits: {', or '.join(spoken)}."


def _harmless_changes(step: TrainingStep, available_bytes: int) -> dict[str, TrainingStep]:
    """Options of `stunet train` that only increase the time, and the resulting steps."""
    in_parts, checkpointed = replace(step, accumulate=step.batch_size), replace(step, checkpointed=True)
    changes = {_options(step, changed): changed for changed in (in_parts, checkpointed) if changed != step}
    fitting = {options: changed for options, changed in changes.items() if fits(changed, available_bytes)}
    both = replace(in_parts, checkpointed=True)
    if not fitting and fits(both, available_bytes) and both != step:
        fitting[_options(step, both)] = both
    return fitting


def _harmful_changes(step: TrainingStep, available_bytes: int) -> dict[str, TrainingStep]:
    """The largest smaller patch and the largest smaller network that fit, each with all options that only add time."""
    frugal = replace(step, accumulate=step.batch_size, checkpointed=True)
    smaller = [_smaller_patch(frugal, available_bytes), _smaller_network(frugal, available_bytes)]
    return {_options(step, changed): changed for changed in smaller if changed is not None}


def _options(before: TrainingStep, after: TrainingStep) -> str:
    """The options to add to `stunet train`."""
    options = []
    if after.network != before.network:
        options.append(f"--size {size_of(after.network)}")
    if after.patch != before.patch:
        options.append(f"--patch {' '.join(map(str, after.patch))}")
    if after.accumulate != before.accumulate:
        options.append(f"--accumulate {after.accumulate}")
    if after.checkpointed != before.checkpointed:
        options.append("--checkpoint-activations")
    return " ".join(options)


def _smaller_network(step: TrainingStep, available_bytes: int) -> TrainingStep | None:
    """The step of the largest smaller size that fits."""
    smaller = (size for size in reversed(SIZES.values()) if size.width < step.network.arguments["width"])
    steps = (replace(step, network=step.network.with_arguments(width=size.width, depth=size.depth)) for size in smaller)
    return next((changed for changed in steps if fits(changed, available_bytes)), None)


def _smaller_patch(step: TrainingStep, available_bytes: int) -> TrainingStep | None:
    """The step with its longest edge shortened repeatedly until it fits."""
    multiple = step.window_multiple
    while not fits(step, available_bytes):
        edges = [edge if edge > 2 * m else 0 for edge, m in zip(step.patch, multiple, strict=True)]
        if not any(edges):
            return None
        patch = list(step.patch)
        axis = edges.index(max(edges))
        patch[axis] -= multiple[axis]
        step = replace(step, patch=cast(Patch, tuple(patch)))
    return step


def _spoken(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
