"""Run one training step of an STU-Net without memory, and record every allocation and release."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn

from stunet.inference.backends.precision import Precision
from stunet.networks.memory import AllocationLog, bytes_of, without_memory
from stunet.networks.network import product_of
from stunet.networks.registry import build
from stunet.networks.stunet import STUNet
from stunet.plans.network_spec import NetworkSpec
from stunet.training.activation_checkpointing import checkpoint_activations
from stunet.training.precision import InFloat32, autocasting
from stunet.training.step import LossTarget, accumulate_gradients, update

Patch = tuple[int, int, int]

DEEP_SUPERVISION_WEIGHTS = (1.0, 0.5, 0.25, 0.125, 0.0)
"""nnU-Net's weights, up to a factor. The deepest head has none."""


@dataclass(frozen=True)
class TrainingStep:
    """A training step, as one process sees it.

    Attributes:
        network: an STU-Net.
        patch: voxels (Z, Y, X), divisible by `window_multiple` but not equal to it.
        batch_size: images of this process.
        precision: of convolutions; float16 takes as much memory as bfloat16.
        checkpointed: recompute activations instead of keeping them (`activation_checkpointing.py`).
        ranks: processes that share weights, gradients and momentum (FSDP); 1 for a plain step or DDP.
        accumulate: number of parts in which the gradient of the batch is computed.
    """

    network: NetworkSpec
    patch: Patch
    batch_size: int = 2
    precision: Precision = "bfloat16"
    checkpointed: bool = False
    ranks: int = 1
    accumulate: int = 1

    def __post_init__(self) -> None:
        multiple = self.window_multiple
        if any(n < 1 or n % m for n, m in zip(self.patch, multiple, strict=True)) or self.patch == multiple:
            raise ValueError(f"a patch to train on is larger than {multiple}, and divisible by it, unlike {self.patch}")
        if min(self.batch_size, self.ranks) < 1 or not 1 <= self.accumulate <= self.batch_size:
            raise ValueError("batch size and ranks are 1 or more, and parts are at most as many as images")

    @property
    def window_multiple(self) -> Patch:
        """The numbers (Z, Y, X) by which a patch must be divisible."""
        return product_of(self.network.arguments["strides"])


@dataclass(frozen=True, eq=False)
class Walk:
    """A step that was run without memory.

    Attributes:
        changes: bytes allocated (positive) or released (negative), in order; weights and momentum exist before.
        owners: for each change, the number of its tensor.
        is_gradient: for each change, whether the tensor is a weight's gradient.
        whole: for each change, bytes of gathered weights and gradients if stages are sharded (FSDP2); for a batch in
            parts, those of the first part.
        weight_bytes: of all weights.
    """

    changes: np.ndarray
    owners: np.ndarray
    is_gradient: np.ndarray
    whole: np.ndarray
    weight_bytes: int


def walked(step: TrainingStep) -> Walk:
    """Run a step without memory, in one process, with the momentum already allocated."""
    with without_memory():
        network = prepared_network(step)
        optimizer = optimizer_of(network)
        for parameter in network.parameters():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        log = AllocationLog([*network.parameters(), *(state["momentum_buffer"] for state in optimizer.state.values())])
        forward_ends: list[int] = []  # number of changes at the end of each stage's forward pass
        for stage in _stages(network):
            stage.register_forward_hook(lambda *_: forward_ends.append(len(log.changes)))
        with log:
            run_step(network, optimizer, step)
        changes, owners = np.array(log.changes), np.array(log.owners)
        gradients = [log.number_of(p.grad) for p in network.parameters() if p.grad is not None]
        backward_ends = [_last_birth(log, stage) for stage in _stages(network)]
        whole = _whole_bytes(network, forward_ends, backward_ends, len(changes))
    # releases between two operations have no defined order; sort them by tensor number
    order = np.lexsort((owners, changes < 0, np.cumsum(changes > 0)))
    changes, owners = changes[order], owners[order]
    return Walk(changes, owners, np.isin(owners, gradients), whole, bytes_of(network.parameters()))


def prepared_network(step: TrainingStep) -> STUNet:
    """The network as trained: with deep supervision, in channels-last layout, checkpointed if requested."""
    network = cast(STUNet, build(step.network, deep_supervision=True))
    if step.checkpointed:
        checkpoint_activations(network)
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            module.weight = nn.Parameter(module.weight.detach().to(memory_format=torch.channels_last_3d))
    return network


def optimizer_of(network: nn.Module) -> torch.optim.Optimizer:
    """The paper's SGD. Unlike torch's default on GPUs, it makes no second copy of all gradients."""
    return torch.optim.SGD(
        network.parameters(), lr=0.01, momentum=0.99, nesterov=True, weight_decay=1e-3, foreach=False
    )


def run_step(network: STUNet, optimizer: torch.optim.Optimizer, step: TrainingStep) -> None:
    """One training iteration, on noise and background labels."""
    device = network.head.weight.device
    loss = InFloat32(_nnunet_loss(), device)

    def loss_of(image_BCZYX: torch.Tensor, target: LossTarget) -> torch.Tensor:
        """The loss of one part of the batch, in the step's precision."""
        with autocasting(step.precision, device):
            return loss(network(image_BCZYX), target)

    scales = np.cumprod(step.network.arguments["strides"], axis=0)[: len(DEEP_SUPERVISION_WEIGHTS)]
    sizes = [[n // s for n, s in zip(step.patch, scale, strict=True)] for scale in scales.tolist()]
    image_BCZYX = torch.randn(step.batch_size, step.network.input_channels, *step.patch, device=device)
    target = [torch.zeros(step.batch_size, 1, *size, dtype=torch.int16, device=device) for size in sizes]
    optimizer.zero_grad(set_to_none=True)
    accumulate_gradients(loss_of, image_BCZYX, target, step.accumulate)
    update(network, optimizer)


def _nnunet_loss() -> nn.Module:
    dice = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)
    return DeepSupervisionWrapper(loss, DEEP_SUPERVISION_WEIGHTS)


# Sharded stages


def _stages(network: STUNet) -> list[nn.Module]:
    """Stages in the order of the forward pass."""
    return [*network.encoder.stages, *network.decoder.stages]


def _last_birth(log: AllocationLog, stage: nn.Module) -> int:
    """The number of changes when the last gradient of the stage's weights was created."""
    births = {owner: place for place, owner in reversed(list(enumerate(log.owners)))}
    return 1 + max(births[log.number_of(p.grad)] for p in stage.parameters() if p.grad is not None)


def _whole_bytes(
    network: STUNet, forward_ends: Sequence[int], backward_ends: Sequence[int], changes: int
) -> np.ndarray:
    """Bytes that FSDP2 holds in addition to the shards, at each change.

    Parameters outside of stages stay gathered, and so do their gradients. In the forward pass, a stage's weights exist
    twice: as received and as used. The backward pass holds a stage's weights and gradients, the weights of the next
    stage, and the gradients of the previous stage, which are being sent.
    """
    own = [bytes_of(stage.parameters()) for stage in _stages(network)]
    whole = np.full(changes, 2 * (bytes_of(network.parameters()) - sum(own)))
    first_pass = forward_ends[: len(own)]
    for size, (start, stop) in zip(own, pairwise([0, *first_pass]), strict=True):
        whole[start:stop] += 2 * size
    order = np.argsort(backward_ends)
    ends = [first_pass[-1], *(backward_ends[number] for number in order)]
    sizes = [0, *(own[number] for number in order), 0]
    for place, (start, stop) in enumerate(pairwise(ends)):
        before, now, after = sizes[place : place + 3]
        whole[start:stop] += before + 2 * now + after
    return whole
