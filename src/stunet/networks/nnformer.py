"""nnFormer (Zhou et al., "nnFormer: Volumetric Medical Image Segmentation via a 3D Transformer", arXiv 2109.03201).

Convolutions turn an image into tokens; four encoder stages and three decoder stages of transformer layers follow. The
two finer stages use attention within small windows, shifted in every other layer (LV-MSA, SLV-MSA). The two coarser
stages, the paper's bottleneck, use windows meant to cover the whole map (GV-MSA). The decoder uses skip attention
instead of concatenation. The defaults give the network of Table 3 of the STU-Net paper.

There is neither dropout nor stochastic depth, so training and evaluation mode give the same result.

Letters in tensor names: B batch, C input channels, F features, K classes, Z Y X space (of voxels or of tokens).
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from stunet.networks.network import DeeplySupervised
from stunet.networks.window_attention import INITIAL_STD, SelfAttention, Size, SkipAttention, WindowGrid

NUM_STAGES = 4
"""Resolution stages of the encoder; the decoder has one fewer."""

LOCAL_STAGES = 2
"""The number of first stages with local, alternately shifted windows; the other stages have global windows."""

HIDDEN_MULTIPLE = 4
"""Hidden features of a layer's perceptron, as a multiple of a token's features."""

WIDTH, HEADS, DEPTH = 192, 6, 2
"""These and the next two constants are from Table 3 of the STU-Net paper; see `NNFormer`."""

TOKEN_SIZE: Size = (2, 4, 4)

WINDOW_SIZES = (4, 4, 8, 4)


def window_multiple_of(token_size: Size) -> Size:
    """The numbers (Z, Y, X) by which a window's size must be divisible: the token size, doubled for each later stage.

    >>> window_multiple_of((2, 4, 4))
    (16, 32, 32)
    """
    return cast(Size, tuple(n * 2 ** (NUM_STAGES - 1) for n in token_size))


class _TokenNorm(nn.LayerNorm):
    """Layer normalisation of each voxel's features in a map (B, F, Z, Y, X)."""

    def forward(self, map_BFZYX: torch.Tensor) -> torch.Tensor:
        """A map of the same shape."""
        return super().forward(map_BFZYX.movedim(1, 4)).movedim(4, 1)


class Embedding(nn.Sequential):
    """Voxels to tokens: four 3x3x3 convolutions, the first and third strided, with GELU and norm between them."""

    def __init__(self, network: "NNFormer"):
        first = cast(Size, tuple(min(n, 2) for n in network.token_size))
        second = cast(Size, tuple(n // s for n, s in zip(network.token_size, first, strict=True)))
        width, half = network.width, network.width // 2
        super().__init__(
            *(nn.Conv3d(network.input_channels, half, 3, first, padding=1), nn.GELU(), _TokenNorm(half)),
            *(nn.Conv3d(half, half, 3, padding=1), nn.GELU(), _TokenNorm(half)),
            *(nn.Conv3d(half, width, 3, second, padding=1), nn.GELU(), _TokenNorm(width)),
            *(nn.Conv3d(width, width, 3, padding=1), _TokenNorm(width)),
        )


class Downsampling(nn.Sequential):
    """GELU, norm and a 3x3x3 convolution with stride 2: half the size, twice the features."""

    def __init__(self, features: int):
        convolution = nn.Conv3d(features, 2 * features, 3, stride=2, padding=1)
        super().__init__(nn.GELU(), _TokenNorm(features), convolution)


class Upsampling(nn.Sequential):
    """Norm and a transposed convolution with stride 2: twice the size, half the features."""

    def __init__(self, features: int):
        super().__init__(_TokenNorm(features), nn.ConvTranspose3d(features, features // 2, 2, stride=2))


class Perceptron(nn.Sequential):
    """Linear, GELU, linear on each token."""

    def __init__(self, features: int):
        hidden = HIDDEN_MULTIPLE * features
        super().__init__(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, features))


class SelfAttentionLayer(nn.Module):
    """A transformer layer: norm, self-attention, residual; norm, perceptron, residual."""

    def __init__(self, features: int, heads: int, window: Size, shifted: bool):
        super().__init__()
        self.window, self.shifted = window, shifted
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.attention = SelfAttention(features, heads, window)
        self.perceptron = Perceptron(features)

    def forward(self, x_BZYXF: torch.Tensor) -> torch.Tensor:
        """A map (B, Z, Y, X, F) to one of the same shape."""
        grid = WindowGrid.over(cast(Size, tuple(x_BZYXF.shape[1:4])), self.window, self.shifted)
        y = x_BZYXF + self.attention(self.norm1(x_BZYXF), grid)
        return y + self.perceptron(self.norm2(y))


class SkipAttentionLayer(nn.Module):
    """The first layer of a decoder stage: a transformer layer in which the decoder's map queries the encoder's.

    Both maps share one norm, and the residual is their sum.
    """

    def __init__(self, features: int, heads: int, window: Size):
        super().__init__()
        self.window = window
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.attention = SkipAttention(features, heads, window)
        self.perceptron = Perceptron(features)

    def forward(self, x_BZYXF: torch.Tensor, skip_BZYXF: torch.Tensor) -> torch.Tensor:
        """The up-sampled map and the encoder's, both (B, Z, Y, X, F), to one of the same shape."""
        grid = WindowGrid.over(cast(Size, tuple(x_BZYXF.shape[1:4])), self.window, shifted=False)
        y = x_BZYXF + skip_BZYXF + self.attention(self.norm1(x_BZYXF), self.norm1(skip_BZYXF), grid)
        return y + self.perceptron(self.norm2(y))


def _self_attention_layer(network: "NNFormer", stage: int, layer: int) -> SelfAttentionLayer:
    shifted = stage < LOCAL_STAGES and layer % 2 == 1
    return SelfAttentionLayer(network.features_per_stage[stage], *_heads_and_window(network, stage), shifted)


def _heads_and_window(network: "NNFormer", stage: int) -> tuple[int, Size]:
    return network.heads * 2**stage, cast(Size, (network.window_sizes[stage],) * 3)


class Encoder(nn.Module):
    """The embedding and four stages of self-attention, each but the first with down-sampling before it."""

    def __init__(self, network: "NNFormer"):
        super().__init__()
        self.embedding = Embedding(network)
        self.downsamples = nn.ModuleList([Downsampling(f) for f in network.features_per_stage[:-1]])
        self.stages = nn.ModuleList(
            nn.Sequential(*(_self_attention_layer(network, stage, layer) for layer in range(network.depth)))
            for stage in range(NUM_STAGES)
        )
        self.norms = nn.ModuleList([nn.LayerNorm(f) for f in network.features_per_stage])

    def forward(self, image_BCZYX: torch.Tensor) -> list[torch.Tensor]:
        """The normalised maps (B, Z, Y, X, F) of the four stages, finest first."""
        x_BFZYX = self.embedding(image_BCZYX)
        skips = []
        for s, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            if s:
                x_BFZYX = self.downsamples[s - 1](x_BFZYX)
            x_BZYXF = stage(x_BFZYX.movedim(1, 4))
            skips.append(norm(x_BZYXF))
            x_BFZYX = x_BZYXF.movedim(4, 1)
        return skips


class DecoderStage(nn.Module):
    """Up-sampling, skip attention, and the stage's remaining layers of self-attention."""

    def __init__(self, network: "NNFormer", stage: int):
        super().__init__()
        features = network.features_per_stage[stage]
        self.upsample = Upsampling(2 * features)
        self.join = SkipAttentionLayer(features, *_heads_and_window(network, stage))
        self.layers = nn.Sequential(
            *(_self_attention_layer(network, stage, layer) for layer in range(1, network.depth))
        )

    def forward(self, x_BZYXF: torch.Tensor, skip_BZYXF: torch.Tensor) -> torch.Tensor:
        """The coarser map (B, Z/2, Y/2, X/2, 2F) and the encoder's (B, Z, Y, X, F) to one of the latter's shape."""
        up_BZYXF = self.upsample(x_BZYXF.movedim(4, 1)).movedim(1, 4)
        return self.layers(self.join(up_BZYXF, skip_BZYXF))


class Decoder(nn.Module):
    """Three decoder stages, each with a head: a transposed convolution from tokens to voxels.

    Attributes:
        deep_supervision: nnU-Net's switch; if on, `NNFormer.forward` returns the logits of all heads.
    """

    def __init__(self, network: "NNFormer", deep_supervision: bool):
        super().__init__()
        self.deep_supervision = deep_supervision
        features, token = network.features_per_stage[-2::-1], network.token_size
        self.stages = nn.ModuleList([DecoderStage(network, stage) for stage in range(NUM_STAGES - 2, -1, -1)])
        self.seg_layers = nn.ModuleList([nn.ConvTranspose3d(f, network.num_classes, token, token) for f in features])

    def forward(self, skips: list[torch.Tensor]) -> list[torch.Tensor]:
        """The encoder's maps (B, Z, Y, X, F), finest first, to the decoder's (B, F, Z, Y, X), coarsest first."""
        x_BZYXF, maps = skips[-1], []
        for stage, skip_BZYXF in zip(self.stages, reversed(skips[:-1]), strict=True):
            x_BZYXF = stage(x_BZYXF, skip_BZYXF)
            maps.append(x_BZYXF.movedim(4, 1))
        return maps


class NNFormer(DeeplySupervised):
    """nnFormer: image in, logits out.

    Its heads turn each token into several voxels, so the logits are its only features at full resolution.

    Args:
        input_channels: channels of the image.
        num_classes: classes, background included.
        width: features of the first stage; each further stage has twice as many.
        heads: attention heads of the first stage; each further stage has twice as many.
        depth: transformer layers of each stage; in the decoder this includes the skip attention.
        token_size: voxels (Z, Y, X) of one token, each 1, 2 or 4 (the paper's patch size).
        window_sizes: for each stage, tokens along each axis of a window.
        deep_supervision: return the logits of all three heads, highest resolution first, instead of only the last.

    Raises:
        ValueError: an invalid argument.
    """

    head_keys = ("decoder.seg_layers.",)
    stem_keys = ("encoder.embedding.0.weight",)
    encoder_keys = ("encoder.",)
    patch_multiple = window_multiple_of(TOKEN_SIZE)

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        width: int = WIDTH,
        heads: int = HEADS,
        depth: int = DEPTH,
        token_size: Sequence[int] = TOKEN_SIZE,
        window_sizes: Sequence[int] = WINDOW_SIZES,
        deep_supervision: bool = False,
    ):
        token_size, window_sizes = [int(n) for n in token_size], [int(n) for n in window_sizes]
        _require_possible(input_channels, num_classes, width, heads, depth, token_size, window_sizes)
        arguments = {
            "width": width,
            "heads": heads,
            "depth": depth,
            "token_size": token_size,
            "window_sizes": window_sizes,
        }
        super().__init__(input_channels, num_classes, arguments)
        self.width, self.heads, self.depth = width, heads, depth
        self.token_size, self.window_sizes = cast(Size, tuple(token_size)), window_sizes
        self.encoder = Encoder(self)
        self.decoder = Decoder(self, deep_supervision)

    @property
    def features_per_stage(self) -> tuple[int, ...]:
        """Features of the four stages, finest first."""
        return tuple(self.width * 2**stage for stage in range(NUM_STAGES))

    @property
    def head(self) -> nn.Module:  # type: ignore[override]
        """The identity: the last features already are the logits."""
        return nn.Identity()

    @property
    def window_multiple(self) -> Size:
        """The token size times the product of the down-samplings."""
        return window_multiple_of(self.token_size)

    @property
    def supervision_strides(self) -> tuple[Size, ...]:
        """The strides of the three heads."""
        return tuple((2**stage,) * 3 for stage in range(NUM_STAGES - 1))

    def forward_features(self, image_BCZYX: torch.Tensor) -> torch.Tensor:
        """The logits (B, K, Z, Y, X); `head` is the identity.

        Raises:
            ValueError: the window's size is not divisible by `window_multiple`.
        """
        return self.decoder.seg_layers[-1](super().forward_features(image_BCZYX))

    def decoder_features(self, image_BCZYX: torch.Tensor) -> list[torch.Tensor]:
        """Maps of the three decoder stages, coarsest first."""
        self.require_fitting(image_BCZYX)
        return self.decoder(self.encoder(image_BCZYX))

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Initialise one linear layer with normal weights; convolutions keep torch's (`network.apply`)."""
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=INITIAL_STD)
            nn.init.zeros_(module.bias)


def _require_possible(
    input_channels: int,
    num_classes: int,
    width: int,
    heads: int,
    depth: int,
    token_size: Sequence[int],
    window_sizes: Sequence[int],
) -> None:
    if min(input_channels, num_classes, width, heads, depth) < 1:
        raise ValueError("channels, classes, width, heads and depth must be 1 or more")
    if width % 2 or width % heads:
        raise ValueError(f"a width of {width} is odd or not divisible by {heads} heads")
    if len(token_size) != 3 or not set(token_size) <= {1, 2, 4}:
        raise ValueError(f"a token's three sizes are each 1, 2 or 4, not {token_size}")
    if len(window_sizes) != NUM_STAGES or min(window_sizes) < 1:
        raise ValueError(f"an nnFormer has {NUM_STAGES} window sizes of 1 or more, not {window_sizes}")
