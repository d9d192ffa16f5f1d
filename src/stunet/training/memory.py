"""How much memory a training step takes, before it is tried: weights, their gradients and momentum, and activations.

A step is run on tensors without memory (`memory_walk.py`), with nnU-Net's loss and the paper's optimiser. Each of its
operations takes bytes that are constant or proportional to the voxels of the batch, in an order that does not depend
on them; two small steps therefore tell about all others.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

import numpy as np

from stunet.networks.network import product_of
from stunet.plans.network_spec import NetworkSpec
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
    return _course(step.network, step.precision, step.checkpointed).at_peak(step)


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

    def at_peak(self, step: TrainingStep) -> TrainingMemory:
        """The moment when a step takes the most; of several parts, in the first or in the second."""
        images, *others = (len(part) for part in np.array_split(np.arange(step.batch_size), step.accumulate))
        first = self._of_part(step, images, has_gradients=False)
        if not others:
            return first
        second = self._of_part(step, others[0], has_gradients=True)
        return max(first, second, key=lambda memory: memory.peak)

    def _of_part(self, step: TrainingStep, images: int, has_gradients: bool) -> TrainingMemory:
        """Of a part of the batch, before which gradients of all weights are there, or none."""
        share = self.weight_bytes // step.ranks
        changes = self.constant + self.per_voxel * images * prod(step.patch)
        activations = np.cumsum(np.where(self.is_gradient, 0, changes))
        made = np.cumsum(np.where(self.is_gradient, changes, 0)) / step.ranks
        gradients = np.full_like(made, share) if has_gradients else made
        whole = self.whole if step.ranks > 1 else np.zeros_like(self.whole)
        moment = int(np.argmax(gradients + activations + whole))
        return TrainingMemory(share, share, *(int(part[moment]) for part in (gradients, activations, whole)))


@lru_cache(maxsize=64)
def _course(network: NetworkSpec, precision: Precision, checkpointed: bool) -> _Course:
    z, y, x = (2 * m for m in product_of(network.arguments["strides"]))
    step = TrainingStep(network, (z, y, x), 1, precision, checkpointed)
    small, large = walked(step), walked(replace(step, patch=(z, y, 2 * x)))
    assert np.array_equal(small.owners, large.owners)
    per_voxel = (large.changes - small.changes) / prod(step.patch)
    constant = small.changes - per_voxel * prod(step.patch)
    return _Course(constant, per_voxel, small.is_gradient, small.whole, small.weight_bytes)
