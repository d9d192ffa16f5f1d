"""One training step of an STU-Net, run without memory: what it takes and gives back, operation by operation."""

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
from stunet.networks.memory import Ledger, bytes_of, without_memory
from stunet.networks.network import product_of
from stunet.networks.registry import build
from stunet.networks.stunet import STUNet
from stunet.plans.network_spec import NetworkSpec
from stunet.training.activation_checkpointing import checkpoint_activations
from stunet.training.precision import InFloat32, autocasting
from stunet.training.step import LossTarget, accumulate_gradients, update

Patch = tuple[int, int, int]

DEEP_SUPERVISION_WEIGHTS = (1.0, 0.5, 0.25, 0.125, 0.0)
"""nnU-Net's, but for a factor; the deepest head has none."""


@dataclass(frozen=True)
class TrainingStep:
    """A training step, as one process sees it.

    Attributes:
        network: an STU-Net.
        patch: voxels (Z, Y, X), divisible by `window_multiple`, and not equal to it.
        batch_size: images of this process.
        precision: of convolutions; float16 takes what bfloat16 takes.
        checkpointed: activations are computed again instead of kept (`activation_checkpointing.py`).
        ranks: processes over which weights, gradients and momentum are cut (FSDP); 1 for a plain step or for DDP.
        accumulate: in how many parts the gradient of the batch is computed.
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
        changes: bytes taken, or with a minus given back, in order; weights and momentum are there before.
        owners: for each change, the number of the tensor that it is about.
        is_gradient: for each change, whether it is about a weight's gradient.
        whole: for each change, bytes of weights and gradients that are whole then where stages are sharded (FSDP2);
            of a batch in parts, for the first.
        weight_bytes: of all weights.
    """

    changes: np.ndarray
    owners: np.ndarray
    is_gradient: np.ndarray
    whole: np.ndarray
    weight_bytes: int


def walked(step: TrainingStep) -> Walk:
    """Run a step without memory, in one process, as it is once momentum is there."""
    with without_memory():
        network = prepared_network(step)
        optimizer = optimizer_of(network)
        for parameter in network.parameters():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        ledger = Ledger([*network.parameters(), *(state["momentum_buffer"] for state in optimizer.state.values())])
        forward_ends: list[int] = []  # how many changes there were when each stage's forward pass ended
        for stage in _stages(network):
            stage.register_forward_hook(lambda *_: forward_ends.append(len(ledger.changes)))
        with ledger:
            run_step(network, optimizer, step)
        changes, owners = np.array(ledger.changes), np.array(ledger.owners)
        gradients = [ledger.number_of(p.grad) for p in network.parameters() if p.grad is not None]
        backward_ends = [_last_birth(ledger, stage) for stage in _stages(network)]
        whole = _whole_bytes(network, forward_ends, backward_ends, len(changes))
    # what is freed between two operations is freed in no particular order: here, in that of the numbers
    order = np.lexsort((owners, changes < 0, np.cumsum(changes > 0)))
    changes, owners = changes[order], owners[order]
    return Walk(changes, owners, np.isin(owners, gradients), whole, bytes_of(network.parameters()))


def prepared_network(step: TrainingStep) -> STUNet:
    """The network as it is trained: with deep supervision, in channels-last layout, checkpointed where asked for."""
    network = cast(STUNet, build(step.network, deep_supervision=True))
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
    """One iteration of the trainer's, on noise and background."""
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


# Where stages are sharded


def _stages(network: STUNet) -> list[nn.Module]:
    """In the order of the forward pass."""
    return [*network.encoder.stages, *network.decoder.stages]


def _last_birth(ledger: Ledger, stage: nn.Module) -> int:
    """How many changes there were when the last gradient of the stage's weights was made."""
    births = {owner: place for place, owner in reversed(list(enumerate(ledger.owners)))}
    return 1 + max(births[ledger.number_of(p.grad)] for p in stage.parameters() if p.grad is not None)


def _whole_bytes(
    network: STUNet, forward_ends: Sequence[int], backward_ends: Sequence[int], changes: int
) -> np.ndarray:
    """What FSDP2 holds beside the shards, at each change.

    What belongs to no stage stays gathered, and so do its gradients. In the forward pass a stage's weights are there
    as they came and as they are used; in the backward pass there are a stage's weights and gradients, the weights of
    the stage that comes next, and the gradients of the one before, on their way.
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
