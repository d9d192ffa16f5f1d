"""STU-Net, the scalable and transferable U-Net (paper, section 3 and Figure 2).

Letters in tensor names: B batch, C input channels, F features, K classes, Z Y X space.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast, get_args

import torch
from torch import nn

from stunet.networks.blocks import (
    NEGATIVE_SLOPE,
    ConvolutionDownsampling,
    Downsampling,
    ResidualBlock,
    Stride,
    Upsampling,
    build_upsampling,
)
from stunet.networks.network import DeeplySupervised, product_of, strides_of_heads

NUM_STAGES = 6
"""Resolution stages of every STU-Net (Table 1)."""

FEATURE_MULTIPLES = (1, 2, 4, 8, 16, 16)
"""Features of each stage as multiples of the first stage's (Table 2)."""

ISOTROPIC_STRIDES: tuple[Stride, ...] = ((1, 1, 1),) + ((2, 2, 2),) * 5
"""The strides of the FLOPs in Table 2."""

PUBLISHED_STRIDES: tuple[Stride, ...] = ((1, 1, 1),) + ((2, 2, 2),) * 4 + ((1, 1, 2),)
"""The strides with which the published weights were trained."""

BASE_WIDTH = 32
"""Features of the first stage of STU-Net-B; `scale` multiplies them."""


@dataclass(frozen=True)
class Size:
    """One size of STU-Net.

    Attributes:
        width: features of the first stage.
        depth: residual blocks in each stage.
        million_parameters: with 1 input channel and 105 classes (Table 2); None for our own sizes.
    """

    width: int
    depth: int
    million_parameters: float | None = None


SIZES: dict[str, Size] = {
    "tiny": Size(8, 1),
    "small": Size(16, 1, 14.60),
    "base": Size(32, 1, 58.26),
    "large": Size(64, 2, 440.30),
    "huge": Size(96, 3, 1457.33),
}
"""Table 2, and our own `tiny` for laptops, tests and small structures."""


def scale(depth: int = 1, width: int = 1) -> Size:
    """STU-Net-B with `depth` times its blocks and `width` times its features (section 3.3, Table 7).

    >>> scale(depth=2, width=2) == Size(SIZES["large"].width, SIZES["large"].depth)
    True
    """
    return Size(BASE_WIDTH * width, depth)


def six_strides(strides: Sequence[Sequence[int]]) -> tuple[Stride, ...]:
    """Fit an nnU-Net plan's strides to six stages: pad with (1, 1, 1) or cut to five down-samplings.

    Args:
        strides: per stage (Z, Y, X), including the first stage's (1, 1, 1), as in nnU-Net v2 plans.

    >>> six_strides([(1, 1, 1), (2, 2, 2), (1, 2, 2)])
    ((1, 1, 1), (2, 2, 2), (1, 2, 2), (1, 1, 1), (1, 1, 1), (1, 1, 1))
    """
    fitted = [cast(Stride, tuple(int(s) for s in stride)) for stride in strides][:NUM_STAGES]
    return tuple(fitted + [(1, 1, 1)] * (NUM_STAGES - len(fitted)))


def features_per_stage(width: int) -> tuple[int, ...]:
    """Features of the six stages, full resolution first.

    >>> features_per_stage(32)
    (32, 64, 128, 256, 512, 512)
    """
    return tuple(width * multiple for multiple in FEATURE_MULTIPLES)


def _six(strides: Sequence[Sequence[int]]) -> tuple[Stride, ...]:
    """Convert and check six strides of three numbers, the first (1, 1, 1).

    Raises:
        ValueError: other strides.
    """
    listed = tuple(cast(Stride, tuple(int(s) for s in stride)) for stride in strides)
    if len(listed) != NUM_STAGES or any(len(s) != 3 or min(s) < 1 for s in listed) or max(listed[0]) > 1:
        raise ValueError(
            f"an STU-Net has {NUM_STAGES} strides of three numbers, the first (1, 1, 1), not {listed}; six_strides() "
            "fits those of an nnU-Net plan"
        )
    return listed


def _stage(in_channels: int, out_channels: int, stride: Stride, depth: int) -> nn.Sequential:
    first = ResidualBlock(in_channels, out_channels, stride, project=True)
    return nn.Sequential(first, *(ResidualBlock(out_channels, out_channels) for _ in range(depth - 1)))


def _stage_after_convolution(in_channels: int, out_channels: int, stride: Stride, depth: int) -> nn.Sequential:
    blocks = (ResidualBlock(out_channels, out_channels) for _ in range(depth))
    return nn.Sequential(ConvolutionDownsampling(in_channels, out_channels, stride), *blocks)


class Encoder(nn.Module):
    """Six stages of residual blocks; each but the first halves the resolution (Figure 2a, left)."""

    def __init__(self, network: "STUNet"):
        super().__init__()
        features = features_per_stage(network.width)
        deeper = _stage if network.downsampling == "residual" else _stage_after_convolution
        stages = [_stage(network.input_channels, features[0], network.strides[0], network.depth)]
        for s in range(1, NUM_STAGES):
            stages.append(deeper(features[s - 1], features[s], network.strides[s], network.depth))
        self.stages = nn.ModuleList(stages)

    def forward(self, image_BCZYX: torch.Tensor) -> list[torch.Tensor]:
        """Features of the six stages, full resolution first."""
        features = [image_BCZYX]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features[1:]


class Decoder(nn.Module):
    """Five decoder stages with skip connections, and a head for each (Figure 2a, right).

    Attributes:
        deep_supervision: nnU-Net's switch; if on, `STUNet.forward` returns the logits of all heads.
    """

    def __init__(self, network: "STUNet", deep_supervision: bool):
        super().__init__()
        features = features_per_stage(network.width)
        self.deep_supervision = deep_supervision
        upsamples, stages, heads = [], [], []
        for s in range(NUM_STAGES - 2, -1, -1):
            upsamples.append(build_upsampling(network.upsampling, features[s + 1], features[s], network.strides[s + 1]))
            stages.append(_stage(2 * features[s], features[s], (1, 1, 1), network.depth))
            heads.append(nn.Conv3d(features[s], network.num_classes, 1))
        self.upsamples = nn.ModuleList(upsamples)
        self.stages = nn.ModuleList(stages)
        self.seg_layers = nn.ModuleList(heads)

    def forward(self, skips: list[torch.Tensor]) -> list[torch.Tensor]:
        """Features of the five decoder stages, deepest first. Empties `skips` (full resolution first)."""
        x = skips.pop()
        outputs = []
        for upsample, stage in zip(self.upsamples, self.stages, strict=True):
            x = stage(torch.cat([upsample(x), skips.pop()], dim=1))
            outputs.append(x)
        return outputs


class STUNet(DeeplySupervised):
    """STU-Net: image in, logits out.

    nnU-Net plans contain the name of this class and its arguments, so neither may change.

    Args:
        input_channels: channels of the image.
        num_classes: classes, background included.
        width: features of the first stage; the others follow `FEATURE_MULTIPLES`.
        depth: residual blocks in each stage of encoder and decoder.
        strides: six strides (Z, Y, X), the first (1, 1, 1).
        downsampling: "residual" (the first block strides) or "convolution" (Table 6).
        upsampling: "nearest" or "trilinear", both with a 1x1x1 convolution, or "transposed" (Table 6).
        deep_supervision: return the logits of all five heads, highest resolution first, instead of only the last.

    Raises:
        ValueError: an invalid argument.
    """

    head_keys = ("decoder.seg_layers.",)
    stem_keys = ("encoder.stages.0.0.conv1.weight", "encoder.stages.0.0.shortcut.weight")
    encoder_keys = ("encoder.",)
    planned_arguments = ("strides",)

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        width: int = BASE_WIDTH,
        depth: int = 1,
        strides: Sequence[Sequence[int]] = ISOTROPIC_STRIDES,
        downsampling: Downsampling = "residual",
        upsampling: Upsampling = "nearest",
        deep_supervision: bool = False,
    ):
        if min(input_channels, num_classes, width, depth) < 1:
            raise ValueError(
                f"channels, classes, width and depth must be 1 or more, not {input_channels}, {num_classes}, {width} "
                f"and {depth}"
            )
        if downsampling not in get_args(Downsampling):
            raise ValueError(f"downsampling is 'residual' or 'convolution', not {downsampling!r}")
        if upsampling not in get_args(Upsampling):
            raise ValueError(f"upsampling is 'nearest', 'trilinear' or 'transposed', not {upsampling!r}")
        arguments = {
            "width": width,
            "depth": depth,
            "strides": [list(stride) for stride in _six(strides)],
            "downsampling": downsampling,
            "upsampling": upsampling,
        }
        super().__init__(input_channels, num_classes, arguments)
        self.width, self.depth, self.strides = width, depth, _six(strides)
        self.downsampling, self.upsampling = downsampling, upsampling
        self.encoder = Encoder(self)
        self.decoder = Decoder(self, deep_supervision)

    @property
    def window_multiple(self) -> Stride:
        """The product of the strides along each axis."""
        return product_of(self.strides)

    @property
    def supervision_strides(self) -> tuple[Stride, ...]:
        """The strides of the five heads."""
        return strides_of_heads(self.strides)

    @staticmethod
    def fitted_strides(strides: Sequence[Sequence[int]]) -> tuple[Stride, ...]:
        """Six strides, see `six_strides`."""
        return six_strides(strides)

    def decoder_features(self, image_BCZYX: torch.Tensor) -> list[torch.Tensor]:
        """Features of the five decoder stages, deepest first."""
        self.require_fitting(image_BCZYX)
        return self.decoder(self.encoder(image_BCZYX))

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """He initialisation of one module, as in nnU-Net (`network.apply`)."""
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
