"""Names of networks and what builds them."""

import difflib
from collections.abc import Callable
from functools import partial

from torch import nn

from stunet.errors import UserError
from stunet.networks.stunet import SIZES, STUNet


def _build_size(name: str, input_channels: int, num_classes: int, **options: object) -> STUNet:
    size = SIZES[name]
    network = STUNet(input_channels, num_classes, size.width, size.depth, **options)  # type: ignore[arg-type]
    return network.apply(STUNet.initialize)


NETWORKS: dict[str, Callable[..., nn.Module]] = {name: partial(_build_size, name) for name in SIZES}
"""Name to builder; a builder takes `input_channels`, `num_classes` and the network's own options."""


def list_networks() -> list[str]:
    """The names that `build_network` knows."""
    return list(NETWORKS)


def build_network(name: str, input_channels: int, num_classes: int, **options: object) -> nn.Module:
    """A new network with random weights.

    Args:
        name: one of `list_networks()`, for instance "base".
        input_channels: channels of the image.
        num_classes: classes, background included.
        options: further arguments of the network, for STU-Net those of `STUNet`.

    Returns:
        A module from (B, C, Z, Y, X) to logits (B, K, Z, Y, X).

    Raises:
        UserError: an unknown name.
        ValueError: options that the network can't have.

    >>> build_network("tiny", input_channels=1, num_classes=3).head.out_channels
    3
    """
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"There is no network {name!r}.{hint} Known are: {', '.join(NETWORKS)}.")
    return NETWORKS[name](input_channels=input_channels, num_classes=num_classes, **options)
