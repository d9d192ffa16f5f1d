"""Intensity transforms: noise, brightness, contrast, gamma.

The defaults are nnU-Net's. `ChannelTransform` documents the shared attributes.
"""

from dataclasses import dataclass

import numpy as np
import torch

from stunet.training.augmentation.channels import ChannelTransform, Numbers, draw_around_one

SMALLEST_DIVISOR = 1e-7
"""Replaces the range or standard deviation of a constant image, which is zero, as divisor."""


@dataclass(frozen=True)
class GaussianNoise(ChannelTransform):
    """Adds Gaussian noise, drawn separately for each channel. Parameter: its standard deviation.

    Attributes:
        deviation: the range of standard deviations (nnU-Net calls it a variance but uses it as a standard deviation).
    """

    probability: float = 0.1
    deviation: tuple[float, float] = (0.0, 0.1)
    shared: bool = True

    def draw(self, random: np.random.Generator) -> Numbers:
        """Draw a standard deviation."""
        return (random.uniform(*self.deviation),)

    def apply(self, image_ZYX: torch.Tensor, numbers: Numbers, noise: torch.Generator) -> None:
        """Add the noise."""
        (deviation,) = numbers
        image_ZYX.add_(torch.empty_like(image_ZYX).normal_(generator=noise), alpha=deviation)


@dataclass(frozen=True)
class _ByFactor(ChannelTransform):
    """Changes a channel by a factor. Parameter: the factor.

    Attributes:
        factor: the range of factors, below and above 1.
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
    """Adds a constant. nnU-Net leaves it out; the paper names it (section 4, implementation details).

    The paper gives no parameters. These are the defaults of nnU-Net 1.7, which the paper used.

    Attributes:
        mean: mean of the constant, in units of the normalised image.
        deviation: standard deviation of the constant.
    """

    probability: float = 0.15
    mean: float = 0.0
    deviation: float = 0.1
    channel_probability: float = 0.5

    def draw(self, random: np.random.Generator) -> Numbers:
        """Draw the constant."""
        return (random.normal(self.mean, self.deviation),)

    def apply(self, image_ZYX: torch.Tensor, numbers: Numbers, noise: torch.Generator) -> None:
        """Add."""
        image_ZYX.add_(numbers[0])


class Contrast(_ByFactor):
    """Stretches intensities around the mean by a factor, and clips them to the channel's original range."""

    def apply(self, image_ZYX: torch.Tensor, numbers: Numbers, noise: torch.Generator) -> None:
        """Stretch, then clip."""
        mean = image_ZYX.mean()
        lowest, highest = torch.aminmax(image_ZYX)
        image_ZYX.sub_(mean).mul_(numbers[0]).add_(mean).clamp_(lowest, highest)


@dataclass(frozen=True)
class Gamma(ChannelTransform):
    """Scales the image to 0..1 and raises it to a power, keeping mean and deviation. Parameter: the exponent.

    Attributes:
        inverted: apply the power to the negative image.
        exponent: the range of exponents, below and above 1.
    """

    inverted: bool = False
    exponent: tuple[float, float] = (0.7, 1.5)

    def draw(self, random: np.random.Generator) -> Numbers:
        """An exponent."""
        return (draw_around_one(random, *self.exponent),)

    def apply(self, image_ZYX: torch.Tensor, numbers: Numbers, noise: torch.Generator) -> None:
        """Apply the power within the image's range, then restore mean and deviation."""
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
