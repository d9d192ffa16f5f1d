"""Transforms of each voxel's intensity: noise, brightness, contrast, gamma.

The defaults are nnU-Net's. See `ChannelTransform` for the attributes that all share.
"""

from dataclasses import dataclass

import numpy as np
import torch

from stunet.training.augmentation.channels import ChannelTransform, Numbers, draw_around_one

SMALLEST_DIVISOR = 1e-7
"""An image of one value is divided by this instead of by its range or its deviation of zero."""


@dataclass(frozen=True)
class GaussianNoise(ChannelTransform):
    """Adds normal noise, another in each channel. Number: its standard deviation.

    Attributes:
        deviation: the range of standard deviations (nnU-Net calls it a variance, and uses it so).
    """

    probability: float = 0.1
    deviation: tuple[float, float] = (0.0, 0.1)
    shared: bool = True

    def draw(self, random: np.random.Generator) -> Numbers:
        """A standard deviation."""
        return (random.uniform(*self.deviation),)

    def apply(self, image_ZYX: torch.Tensor, numbers: Numbers, noise: torch.Generator) -> None:
        """Add the noise."""
        (deviation,) = numbers
        image_ZYX.add_(torch.empty_like(image_ZYX).normal_(generator=noise), alpha=deviation)


@dataclass(frozen=True)
class _ByFactor(ChannelTransform):
    """Changes a channel by a factor. Number: the factor.

    Attributes:
        factor: the range, on both sides of 1.
    """

    probability: float = 0.15
    factor: tuple[float, float] = (0.75, 1.25)

    def draw(self, random: np.random.Generator) -> Numbers:
        """A factor."""
        return (draw_around_one(random, *self.factor),)


class MultiplicativeBrightness(_ByFactor):
    """Multiplies by a factor."""

    def apply(self, image_ZYX: torch.Tensor, numbers: Numbers, noise: torch.Generator) -> None:
        """Multiply."""
        image_ZYX.mul_(numbers[0])


@dataclass(frozen=True)
class AdditiveBrightness(ChannelTransform):
    """Adds a number. nnU-Net leaves it off; the paper names it (section 4, implementation details).

    The paper gives no numbers; these are the ones that nnU-Net 1.7, which it used, keeps for it.

    Attributes:
        mean: of what is added, in units of the normalised image.
        deviation: its standard deviation.
    """

    probability: float = 0.15
    mean: float = 0.0
    deviation: float = 0.1
    channel_probability: float = 0.5

    def draw(self, random: np.random.Generator) -> Numbers:
        """What is added."""
        return (random.normal(self.mean, self.deviation),)

    def apply(self, image_ZYX: torch.Tensor, numbers: Numbers, noise: torch.Generator) -> None:
        """Add."""
        image_ZYX.add_(numbers[0])


class Contrast(_ByFactor):
    """Stretches around the mean by a factor, within the range that the channel had."""

    def apply(self, image_ZYX: torch.Tensor, numbers: Numbers, noise: torch.Generator) -> None:
        """Stretch, then clip."""
        mean = image_ZYX.mean()
        lowest, highest = torch.aminmax(image_ZYX)
        image_ZYX.sub_(mean).mul_(numbers[0]).add_(mean).clamp_(lowest, highest)


@dataclass(frozen=True)
class Gamma(ChannelTransform):
    """Raises the image, scaled to 0..1, to a power; its mean and deviation stay. Number: the exponent.

    Attributes:
        inverted: the power of the negative image.
        exponent: the range, on both sides of 1.
    """

    inverted: bool = False
    exponent: tuple[float, float] = (0.7, 1.5)

    def draw(self, random: np.random.Generator) -> Numbers:
        """An exponent."""
        return (draw_around_one(random, *self.exponent),)

    def apply(self, image_ZYX: torch.Tensor, numbers: Numbers, noise: torch.Generator) -> None:
        """The power, between the lowest and the highest value; then the former mean and deviation."""
        if self.inverted:
            image_ZYX.neg_()
        mean, deviation = image_ZYX.mean(), image_ZYX.std()
        lowest, highest = torch.aminmax(image_ZYX)
        extent = highest - lowest
        image_ZYX.sub_(lowest).div_(extent.clamp(min=SMALLEST_DIVISOR)).pow_(numbers[0]).mul_(extent).add_(lowest)
        mean_now, deviation_now = image_ZYX.mean(), image_ZYX.std()
        image_ZYX.sub_(mean_now).mul_(deviation / deviation_now.clamp(min=SMALLEST_DIVISOR)).add_(mean)
        if self.inverted:
            image_ZYX.neg_()
