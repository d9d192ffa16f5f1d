"""How much memory a training step takes, before it is tried: weights, their gradients and momentum, and activations.

A step of an STU-Net is run on tensors without memory (`networks/memory.py`), with nnU-Net's loss and optimiser, so
nothing is guessed but what kernels take beside their results. All operations of a step take bytes that are either
constant or proportional to the voxels of the batch, in the same order; two small steps therefore tell about any other.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Literal, cast

import numpy as np
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn

from stunet.networks.memory import Ledger, bytes_of, without_memory
from stunet.networks.stunet import STUNet, STUNetConfig, build_stunet
from stunet.training.activation_checkpointing import checkpoint_activations

Patch = tuple[int, int, int]
Precision = Literal["float32", "bfloat16"]

PROCESS_BYTES = 500_000_000
"""What a process takes beside its tensors: on a CPU torch and nnU-Net themselves (bench/training_memory.py)."""

DEEP_SUPERVISION_WEIGHTS = (1.0, 0.5, 0.25, 0.125, 0.0)
"""nnU-Net's, but for a factor; the deepest head has none."""

GATHERED_COPIES = 3
"""Of the largest stage, where stages are sharded: its weights, those of the next one, and its whole gradients."""


@dataclass(frozen=True)
class TrainingStep:
    """A training step, as one process sees it.

    Attributes:
        config: of the network.
        patch: voxels (Z, Y, X), at least twice `config.window_multiple`.
        batch_size: images of this process.
        precision: of convolutions; float16 takes what bfloat16 takes.
        checkpointed: activations are computed again instead of kept (`activation_checkpointing.py`).
        ranks: processes over which weights, gradients and momentum are cut (FSDP); 1 for a plain step or for DDP.
    """

    config: STUNetConfig
    patch: Patch
    batch_size: int = 2
    precision: Precision = "bfloat16"
    checkpointed: bool = False
    ranks: int = 1

    def __post_init__(self) -> None:
        multiple = self.config.window_multiple
        if any(n % m or n < 2 * m for n, m in zip(self.patch, multiple, strict=True)):
            raise ValueError(f"a patch is trained on from {tuple(2 * m for m in multiple)} on, in steps of {multiple}")
        if min(self.batch_size, self.ranks) < 1:
            raise ValueError("batch size and ranks are 1 or more")

    @property
    def voxels(self) -> int:
        """Of the batch."""
        return self.batch_size * prod(self.patch)


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes at the moment when a step takes the most.

    Attributes:
        weights: float32.
        momentum: float32.
        gradients: those that are there already.
        activations: all that lives only during the step: kept activations, logits and what the loss makes of them,
            gradients of activations, weights in half precision, and what convolutions hold twice.
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
    """What a step takes once training is under way, that is from the second step on, when momentum is there."""
    course = _course(step.config, step.precision, step.checkpointed)
    return course.at_peak(step.voxels, step.ranks)


@dataclass(frozen=True, eq=False)
class _Course:
    """What a step takes and gives back, operation by operation, for any number of voxels.

    Attributes:
        constant: bytes of each change that do not depend on the voxels.
        per_voxel: bytes of each change for each voxel of the batch.
        is_gradient: whether the change is about a weight's gradient.
        weight_bytes: of all weights.
        whole_bytes: weights and gradients that are whole at once where the rest is sharded.
    """

    constant: np.ndarray
    per_voxel: np.ndarray
    is_gradient: np.ndarray
    weight_bytes: int
    whole_bytes: int

    def at_peak(self, voxels: int, ranks: int) -> TrainingMemory:
        changes = self.constant + self.per_voxel * voxels
        gradients = np.cumsum(np.where(self.is_gradient, changes, 0)) / ranks
        activations = np.cumsum(np.where(self.is_gradient, 0, changes))
        moment = int(np.argmax(gradients + activations))
        share = self.weight_bytes // ranks
        whole = self.whole_bytes if ranks > 1 else 0
        return TrainingMemory(share, share, int(gradients[moment]), int(activations[moment]), whole)


@lru_cache(maxsize=64)
def _course(config: STUNetConfig, precision: Precision, checkpointed: bool) -> _Course:
    z, y, x = (2 * m for m in config.window_multiple)
    step = TrainingStep(config, (z, y, x), 1, precision, checkpointed)
    small, large = walked(step), walked(replace(step, patch=(z, y, 2 * x)))
    assert np.array_equal(small.owners, large.owners)
    per_voxel = (large.changes - small.changes) / step.voxels
    is_gradient = np.isin(small.owners, list(small.gradients))
    constant = small.changes - per_voxel * step.voxels
    return _Course(constant, per_voxel, is_gradient, small.weight_bytes, small.whole_bytes)


@dataclass(frozen=True, eq=False)
class Walk:
    """A step that was run without memory.

    Attributes:
        changes: see `Ledger`; what is freed between two operations stands in the order of its numbers.
        owners: see `Ledger`.
        gradients: numbers of the memory of the weights' gradients.
        weight_bytes: see `_Course`.
        whole_bytes: see `_Course`.
    """

    changes: np.ndarray
    owners: np.ndarray
    gradients: frozenset[int]
    weight_bytes: int
    whole_bytes: int


def walked(step: TrainingStep) -> Walk:
    """Run a step without memory, by one process."""
    with without_memory():
        network = prepared_network(step)
        optimizer = optimizer_of(network)
        for parameter in network.parameters():  # a first update makes the momentum
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        held = [*network.parameters(), *(state["momentum_buffer"] for state in optimizer.state.values())]
        with Ledger(held) as ledger:
            run_step(network, optimizer, step)
        gradients = {ledger.number_of(p.grad) for p in network.parameters() if p.grad is not None}
        weights = bytes_of(network.parameters())
        changes, owners = np.array(ledger.changes), np.array(ledger.owners)
        order = np.lexsort((owners, changes < 0, np.cumsum(changes > 0)))
        return Walk(changes[order], owners[order], frozenset(gradients), weights, _whole_bytes(network))


def prepared_network(step: TrainingStep) -> STUNet:
    """The network as it is trained: with deep supervision, in channels-last layout, checkpointed where asked for."""
    network = build_stunet(step.config, deep_supervision=True)
    if step.checkpointed:
        checkpoint_activations(network)
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            module.weight = nn.Parameter(module.weight.detach().to(memory_format=torch.channels_last_3d))
    return network


def optimizer_of(network: nn.Module) -> torch.optim.Optimizer:
    """The paper's SGD; it makes no second copy of all gradients, as torch's default on GPUs would."""
    return torch.optim.SGD(
        network.parameters(), lr=0.01, momentum=0.99, nesterov=True, weight_decay=1e-3, foreach=False
    )


def run_step(network: STUNet, optimizer: torch.optim.Optimizer, step: TrainingStep) -> None:
    """One iteration on noise and background: as the trainer's, with nnU-Net's loss."""
    device = network.head.weight.device
    strides = np.cumprod(step.config.strides, axis=0)[: len(DEEP_SUPERVISION_WEIGHTS)]
    image_BCZYX = torch.randn(step.batch_size, step.config.input_channels, *step.patch, device=device)
    sizes = [[n // s for n, s in zip(step.patch, stride, strict=True)] for stride in strides.tolist()]
    target = [torch.zeros(step.batch_size, 1, *size, dtype=torch.int16, device=device) for size in sizes]
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(device.type, torch.bfloat16, enabled=step.precision == "bfloat16"):
        logits = [scale.float() for scale in network(image_BCZYX)]
    loss = _loss()(logits, target)
    del logits
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
    optimizer.step()


def _loss() -> Callable[[list[torch.Tensor], list[torch.Tensor]], torch.Tensor]:
    dice = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)
    return cast(Callable, DeepSupervisionWrapper(loss, DEEP_SUPERVISION_WEIGHTS))


def _whole_bytes(network: STUNet) -> int:
    """Where each stage is sharded on its own: what belongs to no stage, and the largest stage's copies."""
    stages = [bytes_of(stage.parameters()) for part in (network.encoder, network.decoder) for stage in part.stages]
    return bytes_of(network.parameters()) - sum(stages) + GATHERED_COPIES * max(stages)
