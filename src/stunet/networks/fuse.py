"""STU-Net rewritten for inference: the same features from fewer multiplications. Not for training or saving.

**Sub-pixel up-convolutions.** In the decoder, a 3x3x3 convolution follows a nearest-neighbour up-sampling by the
stage's stride s. Along one axis, output o is w_0 u[o-1] + w_1 u[o] + w_2 u[o+1] of the up-sampled u, where u[o] =
x[o//s]: several taps read the same value of the small map x. With t = o - s j + 1, the taps k with 2 - t <= k <= s + 1
- t read x[j], so a transposed convolution of x with stride s, padding 1 and the s + 2 weights

    v[t] = sum of w_k over max(0, 2 - t) <= k <= min(2, s + 1 - t)

gives the same result. For s = 2, v = (w_2, w_1 + w_2, w_0 + w_1, w_0): two taps per output instead of three, 8 instead
of 27 in three dimensions. Zero padding of the up-sampled map equals zero padding of the small one.

**No concatenation.** A convolution of concatenated maps is the sum of the convolutions of each map. So the skip's half
stays at full resolution and the other half moves to the small map; likewise for the 1x1x1 shortcut.
"""

from typing import cast

import torch
from torch import nn
from torch.nn import functional

from stunet.networks.blocks import NEGATIVE_SLOPE, InterpolationUpsampling, ResidualBlock
from stunet.networks.stunet import STUNet
from stunet.plans.network_spec import Stride


class FusedSTUNet(nn.Module):
    """`STUNet.forward_features` from fewer multiplications.

    Args:
        network: an STU-Net in evaluation mode. It shares its encoder and all unchanged blocks with the new network.
    """

    def __init__(self, network: STUNet):
        super().__init__()
        self.encoder = network.encoder
        decoder = network.decoder
        stages = zip(decoder.upsamples, decoder.stages, strict=True)
        self.stages = nn.ModuleList([_decoder_stage(up, cast(nn.Sequential, stage)) for up, stage in stages])

    def forward(self, image_BCZYX: torch.Tensor) -> torch.Tensor:
        """(B, C, Z, Y, X) to the decoder's last features (B, F, Z, Y, X)."""
        skips = self.encoder(image_BCZYX)
        x = skips.pop()
        for stage in self.stages:
            x = stage(x, skips.pop())
        return x


def fuse(network: STUNet) -> FusedSTUNet:
    """Build a network for inference whose results equal `network.forward_features` up to rounding.

    The original must be in evaluation mode. It is not changed, and shares most of its weights with the new network.
    """
    return FusedSTUNet(network).eval()


def _decoder_stage(upsample: nn.Module, stage: nn.Sequential) -> nn.Module:
    if isinstance(upsample, InterpolationUpsampling) and upsample.mode == "nearest":
        return _FusedStage(upsample, stage)
    return _PlainStage(upsample, stage)


class _PlainStage(nn.Module):
    """Up-sample, concatenate, convolve: for up-sampling that cannot be fused with a convolution."""

    def __init__(self, upsample: nn.Module, stage: nn.Sequential):
        super().__init__()
        self.upsample, self.stage = upsample, stage

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """The small map (B, 2F, z, y, x) and the skip (B, F, Z, Y, X) to (B, F, Z, Y, X)."""
        return self.stage(torch.cat([self.upsample(x), skip], dim=1))


class _FusedStage(nn.Module):
    """A decoder stage whose first block processes the small map and the skip separately."""

    def __init__(self, upsample: InterpolationUpsampling, stage: nn.Sequential):
        super().__init__()
        first, *others = cast(list[ResidualBlock], list(stage))
        channels = first.conv1.in_channels // 2
        stride = cast(Stride, tuple(int(s) for s in upsample.scale))
        self.narrow = upsample.conv
        self.conv_up = _sub_pixel_convolution(first.conv1, channels, stride)
        self.conv_skip = _part(first.conv1, slice(channels, None))
        self.norm1, self.conv2, self.norm2 = first.norm1, first.conv2, first.norm2
        shortcut = cast(nn.Conv3d, first.shortcut)
        self.shortcut_up = _repeating_convolution(shortcut, channels, stride)
        self.shortcut_skip = _part(shortcut, slice(channels, None))
        self.others = nn.Sequential(*others)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """The small map (B, 2F, z, y, x) and the skip (B, F, Z, Y, X) to (B, F, Z, Y, X)."""
        x = self.narrow(x)
        y = self.conv_skip(skip) + self.conv_up(x)
        y = functional.leaky_relu(self.norm1(y), NEGATIVE_SLOPE)
        y = self.norm2(self.conv2(y))
        y = self.shortcut_up(x) + self.shortcut_skip(skip) + y
        return self.others(functional.leaky_relu(y, NEGATIVE_SLOPE))


def _part(convolution: nn.Conv3d, channels: slice, bias: bool = True) -> nn.Conv3d:
    """The part of a convolution for some of its input channels."""
    weight = convolution.weight.detach()[:, channels].clone()
    kernel, padding = cast(Stride, convolution.kernel_size), cast(Stride, convolution.padding)
    with torch.device("meta"):
        part = nn.Conv3d(weight.shape[1], weight.shape[0], kernel, padding=padding, bias=bias)
    part.weight = nn.Parameter(weight)
    if bias:
        part.bias = convolution.bias
    return part


def _sub_pixel_convolution(convolution: nn.Conv3d, channels: int, stride: Stride) -> nn.ConvTranspose3d:
    """The 3x3x3 convolution of the first channels, up-sampled by `stride`, as a transposed convolution without bias."""
    weight = convolution.weight.detach()[:, :channels].double()
    z, y, x = (sub_pixel_operator(s).to(weight) for s in stride)
    small = torch.einsum("oizyx,az,by,cx->ioabc", weight, z, y, x).to(convolution.weight.dtype)
    return _transposed(small, stride, padding=1)


def _repeating_convolution(convolution: nn.Conv3d, channels: int, stride: Stride) -> nn.ConvTranspose3d:
    """The 1x1x1 convolution of the first channels without bias, its output repeated along each axis by `stride`."""
    weight = convolution.weight.detach()[:, :channels].transpose(0, 1)
    return _transposed(weight.expand(-1, -1, *stride).contiguous(), stride, padding=0)


def _transposed(weight_IOZYX: torch.Tensor, stride: Stride, padding: int) -> nn.ConvTranspose3d:
    """A transposed convolution with this weight and no bias."""
    inner, outer, *kernel = weight_IOZYX.shape
    with torch.device("meta"):
        transposed = nn.ConvTranspose3d(inner, outer, cast(Stride, tuple(kernel)), stride, padding, bias=False)
    transposed.weight = nn.Parameter(weight_IOZYX)
    return transposed


def sub_pixel_operator(stride: int) -> torch.Tensor:
    """The matrix (stride + 2, 3) from the 3 weights of a convolution to those of its transposed form (see above).

    >>> sub_pixel_operator(2).int().tolist()
    [[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]]
    """
    t, k = torch.arange(stride + 2)[:, None], torch.arange(3)[None]
    return ((k >= 2 - t) & (k <= stride + 1 - t)).float()
