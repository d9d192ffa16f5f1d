"""Names of networks: STU-Net's sizes and variants, and the systems that the paper compares them with."""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any

from torch import nn

from stunet.errors import UserError
from stunet.networks.network import Network
from stunet.networks.stunet import SIZES, scale

CLASSES: dict[str, str] = {
    "stunet": "stunet.networks.stunet.STUNet",
    "nnunet": "stunet.networks.nnunet.NNUNet",
    "unet3d": "stunet.networks.unet3d.UNet3D",
    "unetr": "stunet.networks.unetr.UNETR",
    "swin_unetr": "stunet.networks.swin_unetr.SwinUNETR",
    "nnformer": "stunet.networks.nnformer.NNFormer",
}
"""The classes of networks, by the names that model files hold; nnU-Net's plans hold the classes' own."""


@dataclass(frozen=True)
class Published:
    """What the paper prints of a network, for 1 input channel, 105 classes and a patch of 128 x 128 x 128.

    Attributes:
        parameters: in millions, to the paper's last digit.
        flops: 10^12, likewise; these are torchinfo's mult-adds.
        tables: where they stand.
    """

    parameters: str
    flops: str
    tables: tuple[int, ...]


@dataclass(frozen=True)
class NetworkEntry:
    """A network that has a name.

    Attributes:
        title: what the paper calls it.
        network: which of `CLASSES` it is.
        arguments: those in which it differs from the class's defaults.
        published: its cost in the paper; None for those that the paper gives none for.
    """

    title: str
    network: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    published: Published | None = None

    def build(self, input_channels: int, num_classes: int, **options: object) -> Network:
        """A new network; `options` override `arguments`."""
        network_class = find_class(self.network)
        network = network_class(input_channels, num_classes, **{**self.arguments, **options})
        initialize = getattr(network, "initialize", None)
        return network if initialize is None else network.apply(initialize)


def _stunet(title: str, published: Published | None, depth: int = 1, width: int = 1, **arguments: str) -> NetworkEntry:
    """STU-Net-B with `depth` times its blocks and `width` times its features, or with another way down or up."""
    return NetworkEntry(title, "stunet", {**_numbers(scale(depth, width)), **arguments}, published)


def _tiny(difference: str, **arguments: object) -> NetworkEntry:
    """The tiny STU-Net, but for one thing."""
    return NetworkEntry(f"STU-Net, tiny ({difference})", "stunet", {**_numbers(SIZES["tiny"]), **arguments})


def _nnunet_star(published: Published, depth: int = 1, width: int = 1) -> NetworkEntry:
    """nnU-Net with at most 512 features, times `width`, and `depth` times its convolutions (section 4.3)."""
    factors = [f"d={depth}"] * (depth > 1) + [f"w={width}"] * (width > 1)
    title = f"nnU-Net* ({', '.join(factors)})" if factors else "nnU-Net*"
    arguments = {"width": 32 * width, "depth": depth, "max_features": 512 * width}
    return NetworkEntry(title, "nnunet", arguments, published)


def _numbers(size: object) -> dict[str, int]:
    return {name: value for name, value in asdict(size).items() if name != "million_parameters"}  # type: ignore[call-overload]


NETWORKS: dict[str, NetworkEntry] = {
    "tiny": NetworkEntry("STU-Net, tiny", "stunet", _numbers(SIZES["tiny"])),
    "small": NetworkEntry("STU-Net-S", "stunet", _numbers(SIZES["small"]), Published("14.60", "0.13", (2, 3))),
    "base": NetworkEntry("STU-Net-B", "stunet", _numbers(SIZES["base"]), Published("58.26", "0.51", (2, 3, 6, 7))),
    "large": NetworkEntry("STU-Net-L", "stunet", _numbers(SIZES["large"]), Published("440.30", "3.81", (2, 3, 7))),
    "huge": NetworkEntry("STU-Net-H", "stunet", _numbers(SIZES["huge"]), Published("1457.33", "12.60", (2, 3, 7))),
    "base_convolution": _stunet(
        "STU-Net-B, convolution down", Published("66.02", "0.54", (6,)), downsampling="convolution"
    ),
    "base_transposed": _stunet(
        "STU-Net-B, transposed convolution up", Published("61.32", "0.56", (6,)), upsampling="transposed"
    ),
    "base_trilinear": _stunet("STU-Net-B, trilinear up", Published("58.26", "0.51", (6,)), upsampling="trilinear"),
    "base_w2": _stunet("STU-Net (w=2)", Published("232.80", "2.00", (7,)), width=2),
    "base_w3": _stunet("STU-Net (w=3)", Published("523.62", "4.49", (7,)), width=3),
    "base_w4": _stunet("STU-Net (w=4)", Published("930.71", "7.97", (7,)), width=4),
    "base_d2": _stunet("STU-Net (d=2)", Published("110.15", "0.96", (7,)), depth=2),
    "base_d3": _stunet("STU-Net (d=3)", Published("162.03", "1.41", (7,)), depth=3),
    "base_d4": _stunet("STU-Net (d=4)", Published("213.91", "1.86", (7,)), depth=4),
    "nnunet": NetworkEntry("nnU-Net", "nnunet", {}, Published("31.28", "0.54", (3, 6))),
    "nnunet_star": _nnunet_star(Published("60.18", "0.55", (3, 6, 7))),
    "nnunet_star_w2": _nnunet_star(Published("240.47", "2.19", (7,)), width=2),
    "nnunet_star_w3": _nnunet_star(Published("540.88", "4.92", (7,)), width=3),
    "nnunet_star_w4": _nnunet_star(Published("961.40", "8.73", (7,)), width=4),
    "nnunet_star_d2": _nnunet_star(Published("112.06", "1.01", (7,)), depth=2),
    "nnunet_star_d3": _nnunet_star(Published("163.94", "1.46", (7,)), depth=3),
    "nnunet_star_d4": _nnunet_star(Published("215.83", "1.91", (7,)), depth=4),
    "nnunet_star_d2_w2": _nnunet_star(Published("447.97", "4.00", (7,)), depth=2, width=2),
    "nnunet_star_d3_w3": _nnunet_star(Published("1474.59", "13.03", (7,)), depth=3, width=3),
    "unet3d": NetworkEntry("3D U-Net", "unet3d"),
    "unetr_s": NetworkEntry("UNETR-S", "unetr", {"feature_size": 16}, Published("93.01", "0.16", (3,))),
    "unetr_b": NetworkEntry("UNETR-B", "unetr", {"feature_size": 32}, Published("102.02", "0.59", (3,))),
    "swin_unetr_s": NetworkEntry("SwinUNETR-S", "swin_unetr", {"feature_size": 24}, Published("15.71", "0.19", (3,))),
    "swin_unetr_b": NetworkEntry("SwinUNETR-B", "swin_unetr", {"feature_size": 48}, Published("62.19", "0.76", (3,))),
    "swin_unetr_l": NetworkEntry("SwinUNETR-L", "swin_unetr", {"feature_size": 96}, Published("248.1", "2.99", (3,))),
    "nnformer": NetworkEntry("nnFormer", "nnformer", {}, Published("153.97", "2.04", (3,))),
    "tiny_convolution": _tiny("convolution down", downsampling="convolution"),
    "tiny_transposed": _tiny("transposed convolution up", upsampling="transposed"),
    "tiny_trilinear": _tiny("trilinear up", upsampling="trilinear"),
    "tiny_d2": _tiny("d=2", depth=2),
    "nnunet_tiny": NetworkEntry("nnU-Net, tiny", "nnunet", {"width": 8, "max_features": 80}),
    "nnunet_tiny_w2": NetworkEntry("nnU-Net, tiny (w=2)", "nnunet", {"width": 16, "max_features": 160}),
    "nnunet_tiny_d2": NetworkEntry("nnU-Net, tiny (d=2)", "nnunet", {"width": 8, "max_features": 80, "depth": 2}),
    "unet3d_tiny": NetworkEntry("3D U-Net, tiny", "unet3d", {"width": 4}),
    "unetr_tiny": NetworkEntry(
        "UNETR, tiny", "unetr", {"feature_size": 4, "hidden_size": 48, "mlp_dim": 96, "num_heads": 4}
    ),
    "swin_unetr_tiny": NetworkEntry("SwinUNETR, tiny", "swin_unetr", {"feature_size": 12}),
    "nnformer_tiny": NetworkEntry("nnFormer, tiny", "nnformer", {"width": 24, "heads": 3}),
}
"""All networks by name: STU-Net's sizes (Table 2), its variants and scalings (Tables 6 and 7), nnU-Net and its
scalings, and the other systems of Tables 1 and 3. Those with "tiny" in their names are ours, for laptops and tests."""


def find_class(network: str) -> type[Network]:
    """The class of a network, one of `CLASSES`; nothing else is ever imported.

    Raises:
        UserError: another name.
    """
    if network not in CLASSES:
        raise UserError(f"There is no kind of network {network!r}. Known are: {', '.join(CLASSES)}.")
    module, _, name = CLASSES[network].rpartition(".")
    return getattr(import_module(module), name)


def kind_of(class_path: str) -> str | None:
    """Which of `CLASSES` a class in nnU-Net's plans is; None for others.

    >>> kind_of("stunet.networks.unetr.UNETR")
    'unetr'
    """
    return next((network for network, path in CLASSES.items() if path == class_path), None)


def list_networks() -> list[str]:
    """The names that `build_network` knows."""
    return list(NETWORKS)


def find_network(name: str) -> NetworkEntry:
    """The entry of a name.

    Raises:
        UserError: an unknown name.
    """
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"There is no network {name!r}.{hint} Known are: {', '.join(NETWORKS)}.")
    return NETWORKS[name]


def build_network(name: str, input_channels: int, num_classes: int, **options: object) -> nn.Module:
    """A new network with random weights.

    Args:
        name: one of `list_networks()`, for instance "base".
        input_channels: channels of the image.
        num_classes: classes, background included.
        options: further arguments of the network, for STU-Net those of `STUNet`.

    Returns:
        A `Network`, a module from (B, C, Z, Y, X) to logits (B, K, Z, Y, X).

    Raises:
        UserError: an unknown name, or a network whose package is not installed.
        ValueError: options that the network can't have.

    >>> build_network("tiny", input_channels=1, num_classes=3).head.out_channels
    3
    """
    return find_network(name).build(input_channels, num_classes, **options)
