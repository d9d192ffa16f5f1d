"""Names of networks: STU-Net's sizes and variants, and the systems compared in the paper."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from torch import nn

from stunet.errors import UnknownNameError, UserError
from stunet.networks.network import Network, without_weights
from stunet.networks.stunet import SIZES, Size, scale
from stunet.plans.network_spec import CLASSES, NetworkSpec


@dataclass(frozen=True)
class Published:
    """The paper's numbers for a network with 1 input channel, 105 classes and a patch of 128 x 128 x 128.

    Attributes:
        parameters: in millions, with the paper's digits.
        flops: in 10^12, with the paper's digits; these are torchinfo's mult-adds.
        tables: the tables with these numbers.
    """

    parameters: str
    flops: str
    tables: tuple[int, ...]


@dataclass(frozen=True)
class NamedNetwork:
    """A network that has a name.

    Attributes:
        title: what the paper calls it.
        kind: its key in `CLASSES`.
        arguments: those that differ from the class's defaults.
        published: its cost in the paper; None if the paper gives none.
    """

    title: str
    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    published: Published | None = None


def _stunet(title: str, size: Size, published: Published | None = None, **arguments: str) -> NamedNetwork:
    """An STU-Net of this size; `arguments` may set other down- or up-sampling."""
    return NamedNetwork(title, "stunet", {"width": size.width, "depth": size.depth, **arguments}, published)


def _nnunet_star(published: Published, depth: int = 1, width: int = 1) -> NamedNetwork:
    """nnU-Net with at most 512 x `width` features and `depth` times its convolutions (section 4.3)."""
    factors = [f"d={depth}"] * (depth > 1) + [f"w={width}"] * (width > 1)
    title = f"nnU-Net* ({', '.join(factors)})" if factors else "nnU-Net*"
    arguments = {"width": 32 * width, "depth": depth, "max_features": 512 * width}
    return NamedNetwork(title, "nnunet", arguments, published)


NETWORKS: dict[str, NamedNetwork] = {
    "tiny": _stunet("STU-Net, tiny", SIZES["tiny"]),
    "small": _stunet("STU-Net-S", SIZES["small"], Published("14.60", "0.13", (2, 3))),
    "base": _stunet("STU-Net-B", SIZES["base"], Published("58.26", "0.51", (2, 3, 6, 7))),
    "large": _stunet("STU-Net-L", SIZES["large"], Published("440.30", "3.81", (2, 3, 7))),
    "huge": _stunet("STU-Net-H", SIZES["huge"], Published("1457.33", "12.60", (2, 3, 7))),
    "base_convolution": _stunet(
        "STU-Net-B, convolution down", SIZES["base"], Published("66.02", "0.54", (6,)), downsampling="convolution"
    ),
    "base_transposed": _stunet(
        "STU-Net-B, transposed convolution up", SIZES["base"], Published("61.32", "0.56", (6,)), upsampling="transposed"
    ),
    "base_trilinear": _stunet(
        "STU-Net-B, trilinear up", SIZES["base"], Published("58.26", "0.51", (6,)), upsampling="trilinear"
    ),
    "base_w2": _stunet("STU-Net (w=2)", scale(width=2), Published("232.80", "2.00", (7,))),
    "base_w3": _stunet("STU-Net (w=3)", scale(width=3), Published("523.62", "4.49", (7,))),
    "base_w4": _stunet("STU-Net (w=4)", scale(width=4), Published("930.71", "7.97", (7,))),
    "base_d2": _stunet("STU-Net (d=2)", scale(depth=2), Published("110.15", "0.96", (7,))),
    "base_d3": _stunet("STU-Net (d=3)", scale(depth=3), Published("162.03", "1.41", (7,))),
    "base_d4": _stunet("STU-Net (d=4)", scale(depth=4), Published("213.91", "1.86", (7,))),
    "nnunet": NamedNetwork("nnU-Net", "nnunet", {}, Published("31.28", "0.54", (3, 6))),
    "nnunet_star": _nnunet_star(Published("60.18", "0.55", (3, 6, 7))),
    "nnunet_star_w2": _nnunet_star(Published("240.47", "2.19", (7,)), width=2),
    "nnunet_star_w3": _nnunet_star(Published("540.88", "4.92", (7,)), width=3),
    "nnunet_star_w4": _nnunet_star(Published("961.40", "8.73", (7,)), width=4),
    "nnunet_star_d2": _nnunet_star(Published("112.06", "1.01", (7,)), depth=2),
    "nnunet_star_d3": _nnunet_star(Published("163.94", "1.46", (7,)), depth=3),
    "nnunet_star_d4": _nnunet_star(Published("215.83", "1.91", (7,)), depth=4),
    "nnunet_star_d2_w2": _nnunet_star(Published("447.97", "4.00", (7,)), depth=2, width=2),
    "nnunet_star_d3_w3": _nnunet_star(Published("1474.59", "13.03", (7,)), depth=3, width=3),
    "unet3d": NamedNetwork("3D U-Net", "unet3d"),
    "unetr_s": NamedNetwork("UNETR-S", "unetr", {"feature_size": 16}, Published("93.01", "0.16", (3,))),
    "unetr_b": NamedNetwork("UNETR-B", "unetr", {"feature_size": 32}, Published("102.02", "0.59", (3,))),
    "swin_unetr_s": NamedNetwork("SwinUNETR-S", "swin_unetr", {"feature_size": 24}, Published("15.71", "0.19", (3,))),
    "swin_unetr_b": NamedNetwork("SwinUNETR-B", "swin_unetr", {"feature_size": 48}, Published("62.19", "0.76", (3,))),
    "swin_unetr_l": NamedNetwork("SwinUNETR-L", "swin_unetr", {"feature_size": 96}, Published("248.1", "2.99", (3,))),
    "nnformer": NamedNetwork("nnFormer", "nnformer", {}, Published("153.97", "2.04", (3,))),
    "tiny_convolution": _stunet("STU-Net, tiny (convolution down)", SIZES["tiny"], downsampling="convolution"),
    "tiny_transposed": _stunet("STU-Net, tiny (transposed convolution up)", SIZES["tiny"], upsampling="transposed"),
    "tiny_trilinear": _stunet("STU-Net, tiny (trilinear up)", SIZES["tiny"], upsampling="trilinear"),
    "tiny_d2": _stunet("STU-Net, tiny (d=2)", Size(SIZES["tiny"].width, 2)),
    "nnunet_tiny": NamedNetwork("nnU-Net, tiny", "nnunet", {"width": 8, "max_features": 80}),
    "nnunet_tiny_w2": NamedNetwork("nnU-Net, tiny (w=2)", "nnunet", {"width": 16, "max_features": 160}),
    "nnunet_tiny_d2": NamedNetwork("nnU-Net, tiny (d=2)", "nnunet", {"width": 8, "max_features": 80, "depth": 2}),
    "unet3d_tiny": NamedNetwork("3D U-Net, tiny", "unet3d", {"width": 4}),
    "unetr_tiny": NamedNetwork(
        "UNETR, tiny", "unetr", {"feature_size": 4, "hidden_size": 48, "mlp_dim": 96, "num_heads": 4}
    ),
    "swin_unetr_tiny": NamedNetwork("SwinUNETR, tiny", "swin_unetr", {"feature_size": 12}),
    "nnformer_tiny": NamedNetwork("nnFormer, tiny", "nnformer", {"width": 24, "heads": 3}),
}
"""All networks by name: STU-Net's sizes (Table 2), its variants and scalings (Tables 6 and 7), nnU-Net and its
scalings, and the other systems of Tables 1 and 3. Those with "tiny" in their names are our own, for laptops and
tests."""


def find_class(kind: str) -> type[Network]:
    """The class of a kind of network, a key of `CLASSES`; nothing else is ever imported."""
    module, _, name = CLASSES[kind].rpartition(".")
    return getattr(import_module(module), name)


def find_network(name: str) -> NamedNetwork:
    """Look up a network by name.

    Raises:
        UserError: the name is unknown.
    """
    if name not in NETWORKS:
        raise UnknownNameError.of("network", name, NETWORKS)
    return NETWORKS[name]


def network_spec(name: str, input_channels: int, num_classes: int, **options: object) -> NetworkSpec:
    """The spec of a named network, with all its arguments; `options` override the named ones.

    Raises:
        UserError, ValueError: as `build_network`.

    >>> network_spec("tiny", 1, 3).arguments["width"]
    8
    """
    named = find_network(name)
    with without_weights():
        return build(NetworkSpec(named.kind, input_channels, num_classes, {**named.arguments, **options})).spec


def size_of(spec: NetworkSpec) -> str:
    """A short description of a network: the size of an STU-Net, or kind and arguments of another network.

    >>> size_of(NetworkSpec("stunet", 1, 3, {"width": 32, "depth": 1})), size_of(NetworkSpec("unet3d", 1, 3))
    ('base', 'unet3d')
    """
    if spec.kind != "stunet":
        return ", ".join([spec.kind, *(f"{name} {value}" for name, value in spec.arguments.items())])
    width, depth = spec.arguments["width"], spec.arguments["depth"]
    names = (name for name, size in SIZES.items() if (size.width, size.depth) == (width, depth))
    return next(names, f"width {width}, depth {depth}")


def build(spec: NetworkSpec, deep_supervision: bool = False) -> Network:
    """Build a spec's network with torch's default random weights. In `without_weights()`, even `huge` needs no memory.

    Raises:
        UserError: the network's package is not installed.
        ValueError: invalid arguments.
    """
    network_class: Any = find_class(spec.kind)
    try:
        return network_class(spec.input_channels, spec.num_classes, deep_supervision=deep_supervision, **spec.arguments)
    except UserError:
        raise
    except Exception as error:  # constructors of other packages may raise anything
        raise ValueError(f"invalid arguments for {spec.kind}: {dict(spec.arguments)} ({error})") from error


def build_network(name: str, input_channels: int, num_classes: int, **options: object) -> nn.Module:
    """Build a network with random weights, initialised as in its paper.

    Args:
        name: one of `NETWORKS`, for instance "base".
        input_channels: channels of the image.
        num_classes: classes, background included.
        options: further arguments of the network, for STU-Net those of `STUNet`.

    Returns:
        A `Network`, a module from (B, C, Z, Y, X) to logits (B, K, Z, Y, X).

    Raises:
        UserError: the name is unknown, or the network's package is not installed.
        ValueError: invalid options.

    >>> build_network("tiny", input_channels=1, num_classes=3).head.out_channels
    3
    """
    named = find_network(name)
    deep_supervision = bool(options.pop("deep_supervision", False))
    spec = NetworkSpec(named.kind, input_channels, num_classes, {**named.arguments, **options})
    network = build(spec, deep_supervision)
    initialize = getattr(network, "initialize", None)
    return network if initialize is None else network.apply(initialize)
