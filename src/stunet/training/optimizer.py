"""What learns, and how fast as the training goes on."""

from typing import Any

import torch
from torch import nn

from stunet.networks.stunet import STUNet
from stunet.training.recipes import Recipe


def make_optimizer(network: STUNet, recipe: Recipe, fused: bool = False) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum over `parameter_groups` (section 4); what the recipe freezes learns nothing.

    Args:
        network: on its device, and cut over the processes where it is to be.
        recipe: the numbers.
        fused: update all weights in one kernel, on CUDA GPUs.
    """
    if recipe.freeze_encoder:
        freeze(network, STUNet.encoder_keys)
    return torch.optim.SGD(
        parameter_groups(network, recipe),
        recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        nesterov=True,
        fused=fused,
    )


def freeze(network: nn.Module, keys: tuple[str, ...]) -> None:
    """Parameters whose names begin with one of `keys` get no gradient, and so neither momentum nor weight decay."""
    for name, parameter in network.named_parameters():
        if name.startswith(keys):
            parameter.requires_grad_(False)


def parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """All that learns at one rate; or the heads first (nnU-Net logs the first rate), then the slower body."""
    learning = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    if recipe.body_learning_rate_factor == 1:
        return [{"params": [parameter for _, parameter in learning], "lr": recipe.learning_rate}]
    head: list[nn.Parameter] = []
    body: list[nn.Parameter] = []
    for name, parameter in learning:
        is_head = any(key in name for key in STUNet.head_keys)
        (head if is_head else body).append(parameter)
    body_rate = recipe.body_learning_rate_factor * recipe.learning_rate
    return [{"params": head, "lr": recipe.learning_rate}, {"params": body, "lr": body_rate}]


class PolynomialSchedule(torch.optim.lr_scheduler.LRScheduler):
    """Each group's own initial rate times (1 - epoch / epochs) ** 0.9 (section 4, implementation details).

    nnU-Net's scheduler gives all groups one rate; this one keeps their ratio.
    """

    EXPONENT = 0.9

    def __init__(self, optimizer: torch.optim.Optimizer, epochs: int):
        self.epochs = epochs
        super().__init__(optimizer)

    def step(self, epoch: int | None = None) -> None:
        """Set the rates of `epoch`; without one, of the next."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        decay = (1 - self.last_epoch / self.epochs) ** self.EXPONENT
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * decay
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
