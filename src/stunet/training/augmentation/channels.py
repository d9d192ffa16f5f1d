"""Choose the channels of a sample that a transform changes, and draw its parameters."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch

Numbers = tuple[float, ...]
"""The parameters that a transform drew for one channel. Each transform documents its own."""


@dataclass(frozen=True)
class ChannelTransform(ABC):
    """Draws parameters without looking at the image, then changes one channel in place.

    Attributes:
        probability: that a sample is changed at all.
        channel_probability: that a channel of a changed sample is changed.
        shared: whether all channels of a sample get the same parameters.
    """

    probability: float
    channel_probability: float = 1.0
    shared: bool = False

    @abstractmethod
    def draw(self, random: np.random.Generator) -> Numbers:
        """Draw the parameters for one channel."""

    @abstractmethod
    def apply(self, image_ZYX: torch.Tensor, numbers: Numbers, noise: torch.Generator) -> None:
        """Change `image_ZYX` (float32) in place. `noise`, on the same device, supplies random values per voxel."""


@dataclass(frozen=True)
class ChannelDraw:
    """The parameters of one channel."""

    channel: int
    numbers: Numbers


def draw_channels(transform: ChannelTransform, random: np.random.Generator, channels: int) -> list[ChannelDraw]:
    """The channels of one sample to change, in order. Often there are none."""
    if random.random() >= transform.probability:
        return []
    chosen = [channel for channel in range(channels) if random.random() < transform.channel_probability]
    if transform.shared:
        numbers = transform.draw(random)
        return [ChannelDraw(channel, numbers) for channel in chosen]
    return [ChannelDraw(channel, transform.draw(random)) for channel in chosen]


def draw_around_one(random: np.random.Generator, low: float, high: float) -> float:
    """Draw below 1 (from `low`) or above 1 (up to `high`), each half of the time; always above 1 if `low` is.

    >>> below = [draw_around_one(np.random.default_rng(seed), 0.5, 3) < 1 for seed in range(1000)]
    >>> round(sum(below) / 1000, 1)
    0.5
    """
    if low < 1 and random.random() < 0.5:
        return random.uniform(low, 1)
    return random.uniform(max(low, 1), high)
