"""STU-Net's building blocks: residual block, down- and up-sampling (paper, Figure 2b, 2c, 2f and Table 6)."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from stunet.networks.norm import InstanceNorm
from stunet.plans.network_spec import Stride

Downsampling = Literal["residual", "convolution"]
Upsampling = Literal["nearest", "trilinear", "transposed"]

NEGATIVE_SLOPE = 0.01
"""Slope of every LeakyReLU, as in nnU-Net."""


class ResidualBlock(nn.Module):
    """conv 3x3x3 - IN - LeakyReLU - conv 3x3x3 - IN, plus the shortcut, then LeakyReLU (paper, Figure 2b and 2c).

    The first 3x3x3 convolution has the stride, as in the published weights and in the FLOPs of Table 2 (the text of
    section 3.2.1 says the second). The shortcut is a 1x1x1 convolution without normalisation if `project` is set,
    otherwise the identity.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: per axis (Z, Y, X).
        project: give the shortcut a 1x1x1 convolution; required where the number of channels or the size changes.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Stride = (1, 1, 1), project: bool = False):
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, out_channels, 3, stride, padding=1)
        self.norm1 = InstanceNorm(out_channels, affine=True)
        self.conv2 = nn.Conv3d(out_channels, out_channels, 3, padding=1)
        self.norm2 = InstanceNorm(out_channels, affine=True)
        self.shortcut = nn.Conv3d(in_channels, out_channels, 1, stride) if project else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, Z, Y, X) to (B, out_channels, Z / stride, Y / stride, X / stride)."""
        y = functional.leaky_relu(self.norm1(self.conv1(x)), NEGATIVE_SLOPE, inplace=True)
        y = self.norm2(self.conv2(y))
        return functional.leaky_relu(y.add_(self.shortcut(x)), NEGATIVE_SLOPE, inplace=True)


class ConvolutionDownsampling(nn.Conv3d):
    """The "convolution" row of Table 6: kernel and stride 2 (the stage's stride), channels c_in to c_out.

    It precedes a stage whose first block then keeps size and channels. The kernel equals the stride on each axis, even
    where the stride is 1 (which does not occur in Table 6).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Stride):
        super().__init__(in_channels, out_channels, kernel_size=stride, stride=stride)


class InterpolationUpsampling(nn.Module):
    """Weight-free interpolation and a 1x1x1 convolution (paper, section 3.2.2, Figure 2f).

    In training the convolution follows the interpolation, as published. In evaluation mode `nearest` reverses the
    order: the convolution sees each value once instead of eight times, and the result is bitwise identical.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Stride, mode: Literal["nearest", "trilinear"]):
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 1)
        self.scale = tuple(float(s) for s in stride)
        self.mode = mode

    def _enlarge(self, x: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(x, scale_factor=self.scale, mode=self.mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, Z, Y, X) to (B, out_channels, Z * stride, Y * stride, X * stride)."""
        if self.mode == "nearest" and not self.training:
            return self._enlarge(self.conv(x))
        return self.conv(self._enlarge(x))


class TransposedUpsampling(nn.Module):
    """The "transposed convolution" row of Table 6: kernel equals stride on each axis."""

    def __init__(self, in_channels: int, out_channels: int, stride: Stride):
        super().__init__()
        self.conv = nn.ConvTranspose3d(in_channels, out_channels, kernel_size=stride, stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, Z, Y, X) to (B, out_channels, Z * stride, Y * stride, X * stride)."""
        return self.conv(x)


def build_upsampling(kind: Upsampling, in_channels: int, out_channels: int, stride: Stride) -> nn.Module:
    """Build the up-sampling of this kind, from `in_channels` to `out_channels`."""
    if kind == "transposed":
        return TransposedUpsampling(in_channels, out_channels, stride)
    return InterpolationUpsampling(in_channels, out_channels, stride, kind)
