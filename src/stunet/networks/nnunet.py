"""nnU-Net, nnU-Net* and its scaled versions (Tables 3, 6 and 7), built from nnU-Net's own classes."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from stunet.extras import from_extra
from stunet.networks.blocks import NEGATIVE_SLOPE
from stunet.networks.network import DeeplySupervised, product_of, strides_of_heads
from stunet.networks.norm import InstanceNorm
from stunet.networks.stunet import BASE_WIDTH, ISOTROPIC_STRIDES
from stunet.plans.network_spec import Stride

CONVOLUTIONS_PER_STAGE = 2
"""nnU-Net's number, in the encoder and in the decoder."""

MAX_FEATURES = 320
"""nnU-Net's limit; nnU-Net* has 512 (section 4.3.1)."""

NEEDED_EXTRA = "train"
"""The extra that installs nnU-Net's classes, which nnunetv2 depends on."""


class NNUNet(DeeplySupervised):
    """nnU-Net's U-Net: plain convolutions, instance norm, LeakyReLU, strided down- and transposed up-sampling.

    The layers are those of `PlainConvUNet` (package dynamic_network_architectures), which nnU-Net v2 uses. As in
    nnU-Net 1.7, which the paper used, up-sampling and heads have no bias; Table 7 counts parameters this way.

    Args:
        input_channels: channels of the image.
        num_classes: classes, background included.
        width: features of the first stage; each further stage has twice as many, at most `max_features`.
        depth: 1 for nnU-Net's two convolutions per stage, d for d times as many (section 4.3.2).
        max_features: 320 for nnU-Net, 512 for nnU-Net*.
        strides: stride of each stage (Z, Y, X), the first (1, 1, 1).
        kernel_sizes: kernel of each stage (Z, Y, X); 3 x 3 x 3 by default.
        deep_supervision: return the logits of all heads, highest resolution first, instead of only the last.

    Raises:
        UserError: nnU-Net's classes are not installed.
        ValueError: an invalid argument.
    """

    head_keys = ("decoder.seg_layers.",)
    stem_keys = ("encoder.stages.0.0.convs.0.all_modules.0.weight",)
    encoder_keys = ("encoder.",)
    planned_arguments = ("strides", "kernel_sizes")

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        width: int = BASE_WIDTH,
        depth: int = 1,
        max_features: int = MAX_FEATURES,
        strides: Sequence[Sequence[int]] = ISOTROPIC_STRIDES,
        kernel_sizes: Sequence[Sequence[int]] | None = None,
        deep_supervision: bool = False,
    ):
        kernel_sizes = [(3, 3, 3)] * len(strides) if kernel_sizes is None else kernel_sizes
        _require_possible(input_channels, num_classes, width, depth, max_features, strides, kernel_sizes)
        arguments = {
            "width": width,
            "depth": depth,
            "max_features": max_features,
            "strides": [list(stride) for stride in strides],
            "kernel_sizes": [list(size) for size in kernel_sizes],
        }
        super().__init__(input_channels, num_classes, arguments)
        with from_extra(NEEDED_EXTRA):
            from dynamic_network_architectures.architectures.unet import PlainConvUNet
        unet = PlainConvUNet(
            input_channels,
            len(strides),
            [min(width * 2**stage, max_features) for stage in range(len(strides))],
            nn.Conv3d,
            self.arguments["kernel_sizes"],
            self.arguments["strides"],
            CONVOLUTIONS_PER_STAGE * depth,
            num_classes,
            CONVOLUTIONS_PER_STAGE * depth,
            conv_bias=True,
            norm_op=InstanceNorm,
            norm_op_kwargs={"affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"negative_slope": NEGATIVE_SLOPE, "inplace": True},
            deep_supervision=deep_supervision,
        )
        self.encoder = unet.encoder
        self.decoder = unet.decoder
        _as_in_version_1(self.decoder)
        _name_each_weight_once(self)

    @property
    def window_multiple(self) -> Stride:
        """The product of the strides along each axis."""
        return product_of(self.arguments["strides"])

    @property
    def supervision_strides(self) -> tuple[Stride, ...]:
        """Strides of the heads; every stage but the deepest has one."""
        return strides_of_heads(self.arguments["strides"])

    def decoder_features(self, image_BCZYX: torch.Tensor) -> list[torch.Tensor]:
        """Features of the decoder's stages, deepest first."""
        self.require_fitting(image_BCZYX)
        skips = self.encoder(image_BCZYX)
        x = skips.pop()
        outputs = []
        for upsample, stage in zip(self.decoder.transpconvs, self.decoder.stages, strict=True):
            x = stage(torch.cat([upsample(x), skips.pop()], dim=1))
            outputs.append(x)
        return outputs

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """nnU-Net's own initialisation of one module (`network.apply`)."""
        from dynamic_network_architectures.initialization.weight_init import InitWeights_He

        InitWeights_He(NEGATIVE_SLOPE)(module)


def _require_possible(
    input_channels: int,
    num_classes: int,
    width: int,
    depth: int,
    max_features: int,
    strides: Sequence[Sequence[int]],
    kernel_sizes: Sequence[Sequence[int]],
) -> None:
    if min(input_channels, num_classes, width, depth, max_features) < 1:
        raise ValueError("channels, classes, width, depth and features of an nnU-Net are 1 or more")
    sizes = [*strides, *kernel_sizes]
    if len(strides) < 2 or len(kernel_sizes) != len(strides) or any(len(s) != 3 or min(s) < 1 for s in sizes):
        raise ValueError("an nnU-Net has two stages or more, each with a stride and a kernel of three numbers")
    if max(strides[0]) > 1:
        raise ValueError(f"the first stage of an nnU-Net keeps the resolution: its stride is 1, 1, 1, not {strides[0]}")


def _as_in_version_1(decoder: nn.Module) -> None:
    """Remove the biases of transposed convolutions and heads, which nnU-Net 1.7 does not have."""
    for layers in (decoder.transpconvs, decoder.seg_layers):
        for layer in cast(nn.ModuleList, layers):
            layer.register_parameter("bias", None)


def _name_each_weight_once(network: NNUNet) -> None:
    """Remove aliases of layers, which make nnU-Net's state dicts contain each weight two or three times."""
    del network.decoder.encoder
    for module in network.modules():
        if hasattr(module, "all_modules"):
            for alias in ("conv", "norm", "nonlin"):
                delattr(module, alias)
