"""Which parameters are trained, and their learning rates during the training."""

import math
from functools import partial
from typing import Any

import torch
from torch import nn

from stunet.networks.network import Network
from stunet.training.recipes import Recipe


def make_optimizer(network: Network, recipe: Recipe, fused: bool = False) -> torch.optim.Optimizer:
    """The recipe's optimiser over `parameter_groups`. Parameters that the recipe freezes are left out.

    For STU-Nets it is SGD with Nesterov momentum (section 4).

    Args:
        network: on its device, and already sharded if it will be.
        recipe: the hyperparameters.
        fused: update all weights in one kernel, on CUDA GPUs.
    """
    if recipe.freeze_encoder:
        freeze(network, network.encoder_keys)
    groups = parameter_groups(network, recipe)
    options: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay, "fused": fused}
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, **options)
    return torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=True, **options)


def freeze(network: nn.Module, keys: tuple[str, ...]) -> None:
    """Turn off gradients, and so momentum and weight decay, of parameters whose names start with one of `keys`."""
    for name, parameter in network.named_parameters():
        if name.startswith(keys):
            parameter.requires_grad_(False)


def parameter_groups(network: Network, recipe: Recipe) -> list[dict[str, Any]]:
    """One group if all share one rate; else the heads (nnU-Net logs the first rate), then the slower body."""
    learning = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    if recipe.body_learning_rate_factor == 1:
        return [{"params": [parameter for _, parameter in learning], "lr": recipe.learning_rate}]
    head: list[nn.Parameter] = []
    body: list[nn.Parameter] = []
    for name, parameter in learning:
        is_head = any(key in name for key in network.head_keys)
        (head if is_head else body).append(parameter)
    body_rate = recipe.body_learning_rate_factor * recipe.learning_rate
    return [{"params": head, "lr": recipe.learning_rate}, {"params": body, "lr": body_rate}]


def polynomial_decay(epoch: int, epochs: int) -> float:
    """From 1 to 0: (1 - epoch / epochs) ** 0.9 (section 4, implementation details)."""
    return (1 - epoch / epochs) ** 0.9


def cosine_decay(epoch: int, epochs: int) -> float:
    """Half a cosine wave from 1 to 0, as UNETR and Swin UNETR were trained."""
    return (1 + math.cos(math.pi * epoch / epochs)) / 2


DECAYS = {"polynomial": polynomial_decay, "cosine": cosine_decay}
"""Decay functions by the names that recipes use."""


class LearningRateSchedule(torch.optim.lr_scheduler.LRScheduler):
    """The recipe's schedule: each group's initial rate times one factor, which depends on the epoch.

    If the recipe warms up, the factor rises to 1 in equal steps (a warm-up shorter than an epoch is left out). The
    decay then runs over the remaining epochs. nnU-Net's scheduler gives all groups one rate; this one keeps their
    ratio.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, recipe: Recipe, epochs: int):
        self.warm_up = int(recipe.warm_up * epochs)
        self.decay = partial(DECAYS[recipe.schedule], epochs=epochs - self.warm_up)
        super().__init__(optimizer)

    def factor(self, epoch: int) -> float:
        """The factor of an epoch, counted from 0."""
        return (epoch + 1) / self.warm_up if epoch < self.warm_up else self.decay(epoch - self.warm_up)

    def step(self, epoch: int | None = None) -> None:
        """Set the rates of `epoch`, or of the next epoch."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.factor(self.last_epoch)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
