"""Which channels of a sample a transform changes, and by which numbers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch

Numbers = tuple[float, ...]
"""What a transform drew for one channel; each transform says what they are."""


@dataclass(frozen=True)
class ChannelTransform(ABC):
    """Draws numbers without seeing the image, then changes one channel in place by them.

    Attributes:
        probability: that a sample is changed at all.
        channel_probability: that a channel of such a sample is changed.
        shared: whether all channels of a sample get the same numbers.
    """

    probability: float
    channel_probability: float = 1.0
    shared: bool = False

    @abstractmethod
    def draw(self, random: np.random.Generator) -> Numbers:
        """The numbers for one channel."""

    @abstractmethod
    def apply(self, image_ZYX: torch.Tensor, numbers: Numbers, noise: torch.Generator) -> None:
        """Change `image_ZYX` (float32) in place; `noise`, on its device, is for what differs in each voxel."""


@dataclass(frozen=True)
class ChannelDraw:
    """One channel's numbers."""

    channel: int
    numbers: Numbers


def draw_channels(transform: ChannelTransform, random: np.random.Generator, channels: int) -> list[ChannelDraw]:
    """The channels of one sample that are to be changed, in order; often none."""
    if random.random() >= transform.probability:
        return []
    chosen = [channel for channel in range(channels) if random.random() < transform.channel_probability]
    if transform.shared:
        numbers = transform.draw(random)
        return [ChannelDraw(channel, numbers) for channel in chosen]
    return [ChannelDraw(channel, transform.draw(random)) for channel in chosen]


def draw_around_one(random: np.random.Generator, low: float, high: float) -> float:
    """Half of the draws lie between `low` and 1, half between 1 and `high` (all above 1 where `low` is).

    >>> below = [draw_around_one(np.random.default_rng(seed), 0.5, 3) < 1 for seed in range(1000)]
    >>> round(sum(below) / 1000, 1)
    0.5
    """
    if low < 1 and random.random() < 0.5:
        return random.uniform(low, 1)
    return random.uniform(max(low, 1), high)
