"""The interface of all networks. Trainer, predictor and model files use nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from stunet.plans.network_spec import NetworkSpec, Stride, kind_of

AnyNetwork = TypeVar("AnyNetwork", bound="Network")


class Network(nn.Module, ABC):
    """An image (B, C, Z, Y, X) in, logits (B, K, Z, Y, X) out.

    nnU-Net plans and model files contain the name of a network's class and its arguments, so neither may change. A
    network takes `input_channels`, `num_classes` and `deep_supervision`, and its own arguments with defaults: numbers,
    text, and lists of these.

    Attributes:
        head_keys: prefixes of the parameters that depend on the number of classes.
        stem_keys: names of the convolution weights (O, C, ...) that depend on the number of input channels.
        encoder_keys: prefixes of the encoder's parameters.
        planned_arguments: the arguments that a dataset's plan sets, among "strides", "kernel_sizes" and "window_size".
        patch_multiple: numbers (Z, Y, X) by which a window must be divisible under any plan.
        supervises_deeply: whether it has heads at several resolutions. `network.decoder.deep_supervision` switches them
            on and off, as in nnU-Net; if on, `forward` returns the logits of all heads, highest resolution first.
        input_channels: channels of the image, C.
        num_classes: classes, background included, K.
        arguments: the network's own arguments, as its class takes them.
        transfer_report: a `stunet.weights.transfer_report.TransferReport` on its initial weights; None if random.
    """

    head_keys: ClassVar[tuple[str, ...]]
    stem_keys: ClassVar[tuple[str, ...]]
    encoder_keys: ClassVar[tuple[str, ...]]
    planned_arguments: ClassVar[tuple[str, ...]] = ()
    patch_multiple: ClassVar[Stride] = (1, 1, 1)
    supervises_deeply: ClassVar[bool] = False

    def __init__(self, input_channels: int, num_classes: int, arguments: dict[str, Any]):
        super().__init__()
        self.input_channels = input_channels
        self.num_classes = num_classes
        self.arguments = arguments
        self.transfer_report: Any = None

    @property
    def spec(self) -> NetworkSpec:
        """The spec that builds this network."""
        kind = kind_of(f"{type(self).__module__}.{type(self).__qualname__}")
        assert kind is not None, f"{type(self)} is missing in CLASSES"
        return NetworkSpec(kind, self.input_channels, self.num_classes, self.arguments)

    @property
    def window_multiple(self) -> Stride:
        """The numbers (Z, Y, X) by which a window's size must be divisible."""
        return self.patch_multiple

    @property
    def window_size(self) -> Stride | None:
        """The only window (Z, Y, X) that the network accepts; None if it accepts any multiple."""
        return None

    @property
    def supervision_strides(self) -> tuple[Stride, ...]:
        """Image voxels (Z, Y, X) per output voxel of each head, highest resolution first."""
        return ((1, 1, 1),)

    def supervise_deeply(self, enabled: bool) -> None:
        """Switch all heads but the last on or off. Does nothing if there is only one head."""
        if self.supervises_deeply:
            cast(Any, self).decoder.deep_supervision = enabled

    @property
    def head(self) -> nn.Module:
        """Maps features to logits: a 1x1x1 convolution, or the identity if the features already are logits."""
        return nn.Identity()

    @abstractmethod
    def forward_features(self, image_BCZYX: torch.Tensor) -> torch.Tensor:
        """The features (B, F, Z, Y, X) that `head` maps to logits; deep supervision is off.

        Raises:
            ValueError: the network does not accept this window size.
        """

    def forward(self, image_BCZYX: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Logits (B, K, Z, Y, X).

        Raises:
            ValueError: the network does not accept this window size.
        """
        return self.head(self.forward_features(image_BCZYX))

    @staticmethod
    def fitted_strides(strides: Sequence[Sequence[int]]) -> tuple[Stride, ...]:
        """Convert the strides (Z, Y, X) of an nnU-Net plan's stages to those of this network."""
        return tuple(cast(Stride, tuple(int(s) for s in stride)) for stride in strides)

    def require_fitting(self, image_BCZYX: torch.Tensor) -> None:
        """Check the size of a window.

        Raises:
            ValueError: the network does not accept it.
        """
        size, multiple = tuple(image_BCZYX.shape[2:]), self.window_multiple
        if self.window_size is not None and size != self.window_size:
            raise ValueError(f"this network was built for windows of {self.window_size} voxels, not {size}")
        if any(n % m for n, m in zip(size, multiple, strict=True)):
            raise ValueError(f"a window of {size} voxels is not divisible by the strides' product {multiple}")


class DeeplySupervised(Network):
    """A network whose decoder has a head at each of its stages.

    Attributes:
        decoder: has `seg_layers`, the heads, deepest first, and nnU-Net's switch `deep_supervision`.
    """

    supervises_deeply = True
    decoder: Any

    @property
    def head(self) -> nn.Conv3d:
        """The 1x1x1 convolution from the last features to logits at full resolution."""
        return self.decoder.seg_layers[-1]

    @abstractmethod
    def decoder_features(self, image_BCZYX: torch.Tensor) -> list[torch.Tensor]:
        """Features (B, F, Z, Y, X) of the decoder's stages, deepest first, at each stage's resolution.

        Raises:
            ValueError: the network does not accept this window size.
        """

    def forward_features(self, image_BCZYX: torch.Tensor) -> torch.Tensor:
        """The decoder's last features (B, F, Z, Y, X)."""
        return self.decoder_features(image_BCZYX)[-1]

    def forward(self, image_BCZYX: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Logits (B, K, Z, Y, X); with deep supervision, those of all heads, highest resolution first."""
        if not self.decoder.deep_supervision:
            return super().forward(image_BCZYX)
        features, heads = self.decoder_features(image_BCZYX), self.decoder.seg_layers
        return [head(x) for head, x in zip(reversed(heads), reversed(features), strict=True)]


def product_of(strides: Sequence[Sequence[int]]) -> Stride:
    """The product of the strides along each axis.

    >>> product_of([(1, 1, 1), (2, 2, 2), (1, 2, 2)])
    (2, 4, 4)
    """
    return cast(Stride, tuple(prod(axis) for axis in zip(*strides, strict=True)))


def strides_of_heads(strides: Sequence[Sequence[int]]) -> tuple[Stride, ...]:
    """`Network.supervision_strides` of a U-Net with a head at every stage but the deepest.

    Args:
        strides: of the stages (Z, Y, X), full resolution first.
    """
    return tuple(product_of(strides[: stage + 1]) for stage in range(len(strides) - 1))


def require_no_deep_supervision(network: str, asked: bool) -> None:
    """Refuse deep supervision for a network with only one head.

    Raises:
        ValueError: deep supervision was requested.
    """
    if asked:
        raise ValueError(f"{network} has only one head, so deep supervision is not possible")


class _ReadableNumbers(TorchFunctionMode):
    """Keeps dropout rates readable on the meta device, because constructors read them one by one."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Create ranges on the CPU; leave everything else as it is."""
        if func is torch.linspace:
            return func(*args, **{**(kwargs or {}), "device": "cpu"})
        return func(*args, **(kwargs or {}))


@contextmanager
def without_weights() -> Iterator[None]:
    """In this context, networks are built on the meta device: their tensors have shapes but no data."""
    with torch.device("meta"), _ReadableNumbers():
        yield


def twin_of(network: AnyNetwork, deep_supervision: bool = False) -> AnyNetwork:
    """Build the same network again, without weights."""
    with without_weights():
        return type(network)(
            network.input_channels,
            network.num_classes,
            deep_supervision=deep_supervision,  # type: ignore[call-arg]
            **network.arguments,
        )
