"""How much memory a training step takes, before it is tried: weights, their gradients and momentum, and activations.

A step is run on tensors without memory (`memory_walk.py`), with nnU-Net's loss and the paper's optimiser. Each of its
operations takes bytes that are constant or proportional to the voxels of the batch, in an order that does not depend
on them; two small steps therefore tell about all others.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from stunet.networks.stunet import STUNetConfig
from stunet.training.memory_walk import Precision, TrainingStep, walked


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of one process at the moment when its step takes the most.

    Attributes:
        weights: float32.
        momentum: float32.
        gradients: of weights, those that are there already; float32.
        activations: all else that lives only during the step: kept activations, logits and what the loss makes of
            them, gradients of activations, weights in half precision, and what convolutions hold twice.
        gathered: weights and gradients of stages that are whole for a while where they are sharded.
    """

    weights: int
    momentum: int
    gradients: int
    activations: int
    gathered: int

    @property
    def peak(self) -> int:
        """All of them."""
        return self.weights + self.momentum + self.gradients + self.activations + self.gathered


def training_memory(step: TrainingStep) -> TrainingMemory:
    """What a step takes once training is under way, that is from the second step on, when momentum is there.

    Tensors only: what torch itself takes comes on top, and on a GPU what convolutions choose to use for themselves.
    """
    return _course(step.config, step.precision, step.checkpointed).at_peak(step.voxels, step.ranks)


@dataclass(frozen=True, eq=False)
class _Course:
    """What a step takes and gives back, operation by operation, for any number of voxels.

    Attributes:
        constant: bytes of each change that do not depend on the voxels.
        per_voxel: bytes of each change for each voxel of the batch.
        is_gradient: see `Walk`.
        whole: see `Walk`.
        weight_bytes: of all weights.
    """

    constant: np.ndarray
    per_voxel: np.ndarray
    is_gradient: np.ndarray
    whole: np.ndarray
    weight_bytes: int

    def at_peak(self, voxels: int, ranks: int) -> TrainingMemory:
        """The moment when a step of so many voxels takes the most."""
        changes = self.constant + self.per_voxel * voxels
        gradients = np.cumsum(np.where(self.is_gradient, changes, 0)) / ranks
        activations = np.cumsum(np.where(self.is_gradient, 0, changes))
        whole = self.whole if ranks > 1 else np.zeros_like(self.whole)
        moment = int(np.argmax(gradients + activations + whole))
        share = self.weight_bytes // ranks
        return TrainingMemory(share, share, *(int(part[moment]) for part in (gradients, activations, whole)))


@lru_cache(maxsize=64)
def _course(config: STUNetConfig, precision: Precision, checkpointed: bool) -> _Course:
    z, y, x = (2 * m for m in config.window_multiple)
    step = TrainingStep(config, (z, y, x), 1, precision, checkpointed)
    small, large = walked(step), walked(replace(step, patch=(z, y, 2 * x)))
    assert np.array_equal(small.owners, large.owners)
    per_voxel = (large.changes - small.changes) / step.voxels
    constant = small.changes - per_voxel * step.voxels
    return _Course(constant, per_voxel, small.is_gradient, small.whole, small.weight_bytes)
