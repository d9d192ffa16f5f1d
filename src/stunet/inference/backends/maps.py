"""The computation of every backend: from windows to the maps that are averaged, channels last."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from stunet.inference.head import LinearHead, identity_head, mean_head
from stunet.networks.network import Network


class Features(nn.Module):
    """A network without its heads: from windows to the decoder's last features (B, F, Z, Y, X)."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        """(B, C, Z, Y, X) to (B, F, Z, Y, X)."""
        return self.network.forward_features(windows_BCZYX)


class WindowMaps(nn.Module):
    """One or several networks as one module: from windows to maps that `head_of` turns into mean logits.

    The maps are either the networks' last decoder features, concatenated, or the mean logits, whichever has fewer
    channels.

    Args:
        networks: networks of one architecture, in evaluation mode; not changed.
        bodies: modules that compute each network's last features: `Features` or a rewritten form.
    """

    def __init__(self, networks: Sequence[Network], bodies: Sequence[nn.Module]):
        super().__init__()
        self.bodies = nn.ModuleList(bodies)
        self.heads = nn.ModuleList([network.head for network in networks])
        self.gives_logits = _has_few_classes(networks)

    def forward(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        """(B, C, Z, Y, X) to (B, Z, Y, X, F)."""
        features = [body(windows_BCZYX) for body in self.bodies]
        if not self.gives_logits:
            maps = features[0] if len(features) == 1 else torch.cat(features, dim=1)
            return maps.movedim(1, -1)
        total = _in_float32(self.heads[0], features[0])
        for head, maps in zip(self.heads[1:], features[1:], strict=True):
            total = total + _in_float32(head, maps)
        return (total / len(features)).movedim(1, -1)


def _in_float32(head: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """The logits in float32, for any precision of the network. `onnx_translation` passes symbols."""
    if not isinstance(features, torch.Tensor):
        return head(features)
    with torch.autocast(features.device.type, enabled=False):
        return head(features.float())


def head_of(networks: Sequence[Network], device: torch.device) -> LinearHead:
    """The head from the maps of `WindowMaps` to the mean logits."""
    if _has_few_classes(networks):
        return identity_head(networks[0].num_classes, device)
    return mean_head([cast(nn.Conv3d, network.head) for network in networks], device)


def _has_few_classes(networks: Sequence[Network]) -> bool:
    return networks[0].num_classes <= sum(_features_of(network) for network in networks)


def _features_of(network: Network) -> int:
    """The number of features; for a network without a linear head, the features are the logits."""
    return network.head.in_channels if isinstance(network.head, nn.Conv3d) else network.num_classes
