"""3D U-Net (Çiçek et al., 2016), the fixed network of Table 1: five stages, the same for all tasks."""

from typing import ClassVar

import torch
from torch import nn

from stunet.networks.network import Network, require_no_deep_supervision
from stunet.plans.network_spec import Stride

STAGES = 5
"""Resolution stages (Table 1); the original has four."""

WIDTH = 32
"""Features of the first convolution."""


def double_convolution(in_channels: int, between: int, out_channels: int) -> nn.Sequential:
    """A 3x3x3 convolution, batch norm and ReLU, twice."""
    return nn.Sequential(
        nn.Conv3d(in_channels, between, 3, padding=1),
        nn.BatchNorm3d(between),
        nn.ReLU(inplace=True),
        nn.Conv3d(between, out_channels, 3, padding=1),
        nn.BatchNorm3d(out_channels),
        nn.ReLU(inplace=True),
    )


class UNet3D(Network):
    """3D U-Net: 2x2x2 max pooling, 2x2x2 transposed convolutions, batch norm.

    Features double before each pooling, to avoid a bottleneck at the deepest stage. Unlike in the original,
    convolutions are padded, so the logits have the image's size. It has one head.

    Args:
        input_channels: channels of the image.
        num_classes: classes, background included.
        width: features of the first convolution.
        stages: resolution stages.
        deep_supervision: must be False.

    Raises:
        ValueError: an invalid argument.
    """

    head_keys = ("head_layer.",)
    stem_keys = ("encoder.0.0.weight",)
    encoder_keys = ("encoder.",)
    patch_multiple: ClassVar[Stride] = (2 ** (STAGES - 1),) * 3

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        width: int = WIDTH,
        stages: int = STAGES,
        deep_supervision: bool = False,
    ):
        require_no_deep_supervision("a 3D U-Net", deep_supervision)
        if min(input_channels, num_classes, width) < 1 or stages < 2:
            raise ValueError("a 3D U-Net has two stages or more, and one channel, class and feature or more")
        super().__init__(input_channels, num_classes, {"width": width, "stages": stages})
        encoder = [double_convolution(input_channels, width, 2 * width)]
        upsamples, decoder = [], []
        for stage in range(1, stages):
            features = width * 2**stage
            encoder.append(double_convolution(features, features, 2 * features))
            upsamples.append(nn.ConvTranspose3d(2 * features, 2 * features, 2, stride=2, bias=False))
            decoder.append(double_convolution(3 * features, features, features))
        self.encoder = nn.ModuleList(encoder)
        self.upsamples = nn.ModuleList(reversed(upsamples))
        self.decoder = nn.ModuleList(reversed(decoder))
        self.head_layer = nn.Conv3d(2 * width, num_classes, 1)

    @property
    def window_multiple(self) -> Stride:
        """A power of two: each stage but the first halves all axes."""
        return (2 ** (len(self.encoder) - 1),) * 3

    @property
    def head(self) -> nn.Conv3d:
        """The 1x1x1 convolution from the last features to logits."""
        return self.head_layer

    def forward_features(self, image_BCZYX: torch.Tensor) -> torch.Tensor:
        """The decoder's last features (B, F, Z, Y, X).

        Raises:
            ValueError: the window's size is not divisible by the strides.
        """
        self.require_fitting(image_BCZYX)
        x = self.encoder[0](image_BCZYX)
        skips = []
        for stage in self.encoder[1:]:
            skips.append(x)
            x = stage(nn.functional.max_pool3d(x, 2))
        for upsample, stage in zip(self.upsamples, self.decoder, strict=True):
            x = stage(torch.cat([upsample(x), skips.pop()], dim=1))
        return x

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """He initialisation of one module (`network.apply`), for layers followed by a ReLU."""
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
