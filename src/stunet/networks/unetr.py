"""MONAI's UNETR (Hatamizadeh et al., WACV 2022), compared with STU-Net in Table 3."""

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import nn

from stunet.extras import from_extra
from stunet.networks.network import Network, require_no_deep_supervision
from stunet.plans.network_spec import Stride

TOKEN_EDGE = 16
"""Edge of a token in voxels."""


class UNETR(Network):
    """UNETR: a vision transformer of twelve layers as encoder, a convolutional decoder, one head.

    Its positional embedding fits only one window size. MONAI's layer norms for cross-attention are left out: they are
    unused, and the paper does not count them.

    Args:
        input_channels: channels of the image.
        num_classes: classes, background included.
        feature_size: features of the decoder at full resolution: 16 for UNETR-S, 32 for UNETR-B.
        hidden_size: length of a token.
        mlp_dim: hidden features of the transformer's layers.
        num_heads: attention heads.
        window_size: voxels (Z, Y, X), multiples of 16.
        deep_supervision: must be False.

    Raises:
        UserError: MONAI is not installed.
        ValueError: an invalid argument.
    """

    head_keys = ("head_layer.",)
    stem_keys = (
        "body.vit.patch_embedding.patch_embeddings.weight",
        "body.encoder1.layer.conv1.conv.weight",
        "body.encoder1.layer.conv3.conv.weight",
    )
    encoder_keys = ("body.vit.",)
    planned_arguments = ("window_size",)
    patch_multiple: ClassVar[Stride] = (TOKEN_EDGE,) * 3

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        feature_size: int = 16,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_heads: int = 12,
        window_size: Sequence[int] = (128, 128, 128),
        deep_supervision: bool = False,
    ):
        require_no_deep_supervision("a UNETR", deep_supervision)
        if len(window_size) != 3 or any(n < TOKEN_EDGE or n % TOKEN_EDGE for n in window_size):
            raise ValueError(f"a UNETR's window has three edges, multiples of {TOKEN_EDGE}, not {window_size}")
        arguments = {
            "feature_size": feature_size,
            "hidden_size": hidden_size,
            "mlp_dim": mlp_dim,
            "num_heads": num_heads,
            "window_size": [int(n) for n in window_size],
        }
        super().__init__(input_channels, num_classes, arguments)
        with from_extra("baselines"):
            from monai.networks.nets.unetr import UNETR as MonaiUNETR  # noqa: N811
        self.body = MonaiUNETR(
            input_channels,
            num_classes,
            tuple(window_size),
            feature_size=feature_size,
            hidden_size=hidden_size,
            mlp_dim=mlp_dim,
            num_heads=num_heads,
            proj_type="conv",
            norm_name="instance",
        )
        self.head_layer = self.body.out.conv.conv
        self.body.out = nn.Identity()  # type: ignore[assignment]
        for block in self.body.vit.blocks:
            block.norm_cross_attn = nn.Identity()

    @property
    def window_size(self) -> Stride:
        """The only window (Z, Y, X) that the network accepts."""
        return cast(Stride, tuple(self.arguments["window_size"]))

    @property
    def head(self) -> nn.Conv3d:
        """The 1x1x1 convolution from the last features to logits."""
        return self.head_layer

    def forward_features(self, image_BCZYX: torch.Tensor) -> torch.Tensor:
        """The decoder's last features (B, F, Z, Y, X).

        Raises:
            ValueError: the network was built for another window size.
        """
        self.require_fitting(image_BCZYX)
        return self.body(image_BCZYX)
