"""Which patch is used in which step. It depends only on (seed, stream, step, slot).

A slot is a position in the global batch, which all ranks share. nnU-Net's own data loader draws case, box and
augmentation of each slot from random numbers that are seeded for this slot of this step. So they do not depend on the
number of worker processes, the number of ranks, or earlier draws, and a resumed run continues exactly where it
stopped.
"""

import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from typing import Any, Literal

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from torch.utils.data import DataLoader, Dataset

Stream = Literal["training", "validation"]
"""Training and validation batches are drawn independently."""

STREAM_NUMBERS: dict[Stream, int] = {"training": 0, "validation": 1}

Batch = dict[str, Any]
"""nnU-Net's "data" (B, C, Z, Y, X), "target" (a list with deep supervision) and "keys" (the cases), and our "step" and
"slots"."""


def slots_of_rank(global_batch_size: int, rank: int = 0, world_size: int = 1) -> range:
    """The slots of the global batch that belong to a rank: consecutive, and divided as evenly as nnU-Net does.

    >>> slots_of_rank(5, 0, 2), slots_of_rank(5, 1, 2)
    (range(0, 3), range(3, 5))
    """
    share, rest = divmod(global_batch_size, world_size)
    start = rank * share + min(rank, rest)
    return range(start, start + share + (rank < rest))


def is_foreground_slot(slot: int, global_batch_size: int, foreground_fraction: float) -> bool:
    """Whether the patch of a slot must contain foreground: nnU-Net's rule, applied to the global batch.

    >>> is_foreground_slot(0, 2, 0.33), is_foreground_slot(1, 2, 0.33)
    (False, True)
    """
    return slot >= round(global_batch_size * (1 - foreground_fraction))


def sample_seeds(seed: int, stream: Stream, step: int, slot: int) -> np.ndarray:
    """Eight 32-bit numbers that seed all random draws of one sample."""
    return np.random.SeedSequence((seed, STREAM_NUMBERS[stream], step, slot)).generate_state(8)


def device_seed(seed: int, step: int, slot: int) -> int:
    """Seed for augmenting one training sample on the device."""
    high, low = sample_seeds(seed, "training", step, slot)[3:5]
    return int(high) << 32 | int(low)


RandomState = tuple[Any, Any, torch.Tensor]
"""States of NumPy's, Python's and torch's CPU generators."""


def random_state() -> RandomState:
    """The states of the three random number generators."""
    return np.random.get_state(), random.getstate(), torch.get_rng_state()


def set_random_state(state: RandomState) -> None:
    """Restore the states of the three random number generators."""
    np.random.set_state(state[0])
    random.setstate(state[1])
    torch.set_rng_state(state[2])


def seed_all(seeds: np.ndarray) -> None:
    """Seed the three generators with the result of `sample_seeds`."""
    np.random.seed(seeds)
    random.seed(int(seeds[0]))
    torch.default_generator.manual_seed(int(seeds[1]) << 32 | int(seeds[2]))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Restore the random state afterwards, so that draws inside do not affect later ones."""
    kept = random_state()
    try:
        yield
    finally:
        set_random_state(kept)


class SeededBatches(Dataset):
    """Item `step` is this rank's part of the global batch of that step.

    nnU-Net's loader builds it, as a batch of one from the seeds of each slot. The loader first asks for the cases, and
    then, before each sample, whether its patch must contain foreground. This class answers both questions.

    Args:
        loader: nnU-Net's own, which draws boxes and has the transforms; it is copied.
        slots: this rank's, see `slots_of_rank`.
        global_batch_size: of all ranks.
        foreground_fraction: fraction of the global batch whose patches must contain foreground.
        seed: of the run.
        stream: "training" or "validation".
    """

    def __init__(
        self,
        loader: nnUNetDataLoader,
        slots: Sequence[int],
        global_batch_size: int,
        foreground_fraction: float,
        seed: int,
        stream: Stream,
    ):
        self.loader = copy(loader)
        self.loader.batch_size = len(slots)
        self.loader.transforms = without_timing(loader.transforms)
        self.loader.get_indices = self._draw_cases
        self.loader.get_do_oversample = self._start_sample
        # nnU-Net may decide on foreground at random for each patch, independently of the slot
        self.is_probabilistic = loader.get_do_oversample.__func__ is nnUNetDataLoader._probabilistic_oversampling
        self.slots = tuple(slots)
        self.global_batch_size = global_batch_size
        self.foreground_fraction = foreground_fraction
        self.seed = seed
        self.stream = stream
        self._step = 0
        self._states: list[RandomState] = []

    def __getitem__(self, step: int) -> Batch:
        self._step = step
        with undisturbed():
            batch = self.loader.generate_train_batch()
        return {**batch, "step": step, "slots": self.slots}

    def _draw_cases(self) -> list[str]:
        """Draw a case for each slot as nnU-Net does, and keep the slot's random state for its sample."""
        cases: list[str] = []
        self._states = []
        for slot in self.slots:
            seed_all(sample_seeds(self.seed, self.stream, self._step, slot))
            cases += np.random.choice(self.loader.indices, 1, p=self.loader.sampling_probabilities).tolist()
            self._states.append(random_state())
        return cases

    def _start_sample(self, number: int) -> bool:
        """Whether this sample's patch must contain foreground. From here on, the slot's random numbers are used."""
        set_random_state(self._states[number])
        if self.is_probabilistic:
            return self.loader._probabilistic_oversampling(number)
        return is_foreground_slot(self.slots[number], self.global_batch_size, self.foreground_fraction)


def without_timing(transforms: BasicTransform | None) -> BasicTransform | None:
    """A copy in which no transform measures which of two implementations is faster. Both agree up to rounding.

    nnU-Net's Gaussian blur does this in each process, for each axis length and kernel size.
    """
    transforms = deepcopy(transforms)
    for transform in all_transforms(transforms):
        if isinstance(transform, GaussianBlurTransform):
            transform.benchmark = False
    return transforms


def all_transforms(transform: BasicTransform | None) -> Iterator[BasicTransform]:
    """Yield a transform and all transforms within it."""
    if transform is None:
        return
    yield transform
    within = transform.transforms if isinstance(transform, ComposeTransforms) else []
    for inner in [transform.transform] if isinstance(transform, RandomTransform) else within:
        yield from all_transforms(inner)


def batches(dataset: SeededBatches, steps: range, workers: int, pin_memory: bool = False) -> Iterator[Batch]:
    """The batches of `steps` in order, prefetched by `workers` processes; 0 loads each on demand."""
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=steps,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        worker_init_fn=_leave_signals_to_parent if workers else None,
    )
    return iter(loader)


def _as_it_is(batch: Any) -> Any:
    return batch


def _leave_signals_to_parent(worker: int) -> None:
    """Clusters signal all processes of a job, but the parent still needs its workers to finish a step and save."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
