"""What learns, and how fast as the training goes on."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from stunet.networks.network import Network
from stunet.training.recipes import Recipe


def make_optimizer(network: Network, recipe: Recipe, fused: bool = False) -> torch.optim.Optimizer:
    """The recipe's optimiser over `parameter_groups`; what the recipe freezes learns nothing.

    For STU-Nets it is SGD with Nesterov momentum (section 4).

    Args:
        network: on its device, and cut over the processes where it is to be.
        recipe: the numbers.
        fused: update all weights in one kernel, on CUDA GPUs.
    """
    if recipe.freeze_encoder:
        freeze(network, network.encoder_keys)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(
            parameter_groups(network, recipe), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=fused
        )
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


def parameter_groups(network: Network, recipe: Recipe) -> list[dict[str, Any]]:
    """All that learns at one rate; or the heads first (nnU-Net logs the first rate), then the slower body."""
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


class LearningRateSchedule(torch.optim.lr_scheduler.LRScheduler, ABC):
    """Each group's own initial rate times one factor, which depends on the epoch.

    nnU-Net's scheduler gives all groups one rate; this one keeps their ratio.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, epochs: int):
        self.epochs = epochs
        super().__init__(optimizer)

    @abstractmethod
    def factor(self, epoch: int) -> float:
        """Of `epoch`, counted from 0."""

    def step(self, epoch: int | None = None) -> None:
        """Set the rates of `epoch`; without one, of the next."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.factor(self.last_epoch)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


class PolynomialSchedule(LearningRateSchedule):
    """(1 - epoch / epochs) ** 0.9 (section 4, implementation details)."""

    EXPONENT = 0.9

    def factor(self, epoch: int) -> float:
        """From 1 to 0."""
        return (1 - epoch / self.epochs) ** self.EXPONENT


class CosineSchedule(LearningRateSchedule):
    """Half a wave from 1 to 0, as UNETR and Swin UNETR were trained."""

    def factor(self, epoch: int) -> float:
        """From 1 to 0."""
        return (1 + math.cos(math.pi * epoch / self.epochs)) / 2


class WarmUp(LearningRateSchedule):
    """Equal steps up to the first rate of another schedule, which then runs over the epochs that are left.

    Args:
        schedule: the other.
        epochs: in which the rates rise; in the first they are one step above 0.
    """

    def __init__(self, schedule: LearningRateSchedule, epochs: int):
        self.schedule = schedule
        super().__init__(schedule.optimizer, epochs)

    def factor(self, epoch: int) -> float:
        """Up to 1, then as the other schedule."""
        return (epoch + 1) / self.epochs if epoch < self.epochs else self.schedule.factor(epoch - self.epochs)


SCHEDULES: dict[str, type[LearningRateSchedule]] = {"polynomial": PolynomialSchedule, "cosine": CosineSchedule}
"""By the names that recipes give them."""


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, epochs: int) -> LearningRateSchedule:
    """The recipe's schedule over `epochs`; a warm-up that is shorter than an epoch is left out."""
    warm_up = int(recipe.warm_up * epochs)
    schedule = SCHEDULES[recipe.schedule](optimizer, epochs - warm_up)
    return WarmUp(schedule, warm_up) if warm_up else schedule
