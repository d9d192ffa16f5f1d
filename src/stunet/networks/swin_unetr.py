"""MONAI's Swin UNETR (Hatamizadeh et al., BrainLes 2021), compared with STU-Net in Table 3."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from stunet.extras import from_extra
from stunet.networks.network import Network, require_no_deep_supervision
from stunet.plans.network_spec import Stride


class SwinUNETR(Network):
    """Swin UNETR: an encoder of shifted-window attention, a convolutional decoder, one head.

    Args:
        input_channels: channels of the image.
        num_classes: classes, background included.
        feature_size: features at full resolution: 24 for SwinUNETR-S, 48 for -B, 96 for -L (section 4.1).
        depths: transformer layers in each of the four stages.
        num_heads: attention heads in each stage.
        deep_supervision: must be False.

    Raises:
        UserError: MONAI is not installed.
        ValueError: an invalid argument.
    """

    head_keys = ("head_layer.",)
    stem_keys = (
        "body.swinViT.patch_embed.proj.weight",
        "body.encoder1.layer.conv1.conv.weight",
        "body.encoder1.layer.conv3.conv.weight",
    )
    encoder_keys = ("body.swinViT.",)
    patch_multiple: ClassVar[Stride] = (32, 32, 32)

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        feature_size: int = 24,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        deep_supervision: bool = False,
    ):
        require_no_deep_supervision("a Swin UNETR", deep_supervision)
        if len(depths) != 4 or len(num_heads) != 4:
            raise ValueError(f"a Swin UNETR has four stages, not {len(depths)} depths and {len(num_heads)} heads")
        arguments = {"feature_size": feature_size, "depths": list(depths), "num_heads": list(num_heads)}
        super().__init__(input_channels, num_classes, arguments)
        with from_extra("baselines"):
            from monai.networks.nets.swin_unetr import SwinUNETR as MonaiSwinUNETR
        self.body = MonaiSwinUNETR(
            in_channels=input_channels,
            out_channels=num_classes,
            feature_size=feature_size,
            depths=tuple(depths),
            num_heads=tuple(num_heads),
        )
        self.head_layer = self.body.out.conv.conv
        self.body.out = nn.Identity()  # type: ignore[assignment]

    @property
    def head(self) -> nn.Conv3d:
        """The 1x1x1 convolution from the last features to logits."""
        return self.head_layer

    def forward_features(self, image_BCZYX: torch.Tensor) -> torch.Tensor:
        """The decoder's last features (B, F, Z, Y, X).

        Raises:
            ValueError: the window's edges are not multiples of 32.
        """
        self.require_fitting(image_BCZYX)
        return self.body(image_BCZYX)
