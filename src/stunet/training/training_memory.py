"""Estimate the memory of a training step in advance: weights, gradients, momentum and activations.

The step runs on tensors without memory (`memory_walk.py`), with nnU-Net's loss and the paper's optimiser. Each
operation takes a number of bytes that is constant or proportional to the voxels of the batch, in an order that does not
depend on them. Two small steps therefore determine all others.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

import numpy as np

from stunet.inference.backends.precision import Precision
from stunet.networks.network import product_of
from stunet.plans.network_spec import NetworkSpec
from stunet.training.memory_walk import TrainingStep, Walk, walked


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of one process at the moment of peak memory.

    Attributes:
        weights: float32.
        momentum: float32.
        gradients: of weights, as far as already computed; float32.
        activations: everything else that exists only during the step: stored activations, logits and intermediate
            results of the loss, gradients of activations, weights in half precision, and copies made by convolutions.
        gathered: weights and gradients of stages that are temporarily whole if stages are sharded.
    """

    weights: int
    momentum: int
    gradients: int
    activations: int
    gathered: int

    @property
    def peak(self) -> int:
        """Sum of all of them."""
        return self.weights + self.momentum + self.gradients + self.activations + self.gathered


def training_memory(step: TrainingStep) -> TrainingMemory:
    """Memory of a training step once momentum exists, that is from the second step on.

    It counts tensors only. torch itself adds to it, and on a GPU so do the workspaces of convolutions.
    """
    return _course(step.network, step.precision, step.checkpointed).at_peak(step)


@dataclass(frozen=True, eq=False)
class _Course:
    """The allocations and releases of a step, operation by operation, for any number of voxels.

    Attributes:
        constant: the part of each change that does not depend on the voxels, in bytes.
        per_voxel: bytes of each change per voxel of the batch.
        walk: a step with few voxels, for everything that does not depend on them.
    """

    constant: np.ndarray
    per_voxel: np.ndarray
    walk: Walk

    def at_peak(self, step: TrainingStep) -> TrainingMemory:
        """Memory at the peak of a step. For a batch in parts, the peak is in the first or the second part."""
        images, *others = (len(part) for part in np.array_split(np.arange(step.batch_size), step.accumulate))
        first = self._of_part(step, images, has_gradients=False)
        if not others:
            return first
        second = self._of_part(step, others[0], has_gradients=True)
        return max(first, second, key=lambda memory: memory.peak)

    def _of_part(self, step: TrainingStep, images: int, has_gradients: bool) -> TrainingMemory:
        """Memory of a part of the batch, when gradients of all weights exist beforehand, or none."""
        share = self.walk.weight_bytes // step.ranks
        changes = self.constant + self.per_voxel * images * prod(step.patch)
        activations = np.cumsum(np.where(self.walk.is_gradient, 0, changes))
        made = np.cumsum(np.where(self.walk.is_gradient, changes, 0)) / step.ranks
        gradients = np.full_like(made, share) if has_gradients else made
        whole = self.walk.whole if step.ranks > 1 else np.zeros_like(self.walk.whole)
        moment = int(np.argmax(gradients + activations + whole))
        return TrainingMemory(share, share, *(int(part[moment]) for part in (gradients, activations, whole)))


@lru_cache(maxsize=64)
def _course(network: NetworkSpec, precision: Precision, checkpointed: bool) -> _Course:
    z, y, x = (2 * m for m in product_of(network.arguments["strides"]))
    step = TrainingStep(network, (z, y, x), 1, precision, checkpointed)
    small, large = walked(step), walked(replace(step, patch=(z, y, 2 * x)))
    assert np.array_equal(small.owners, large.owners)
    per_voxel = (large.changes - small.changes) / prod(step.patch)
    return _Course(small.changes - per_voxel * prod(step.patch), per_voxel, small)
