"""What every backend computes: from windows to the maps that are averaged, channels last."""

from collections.abc import Sequence

import torch
from torch import nn

from stunet.inference.head import LinearHead, identity_head, mean_head
from stunet.networks.stunet import STUNet


class Features(nn.Module):
    """A network without its heads: windows to the decoder's last features (B, F, Z, Y, X)."""

    def __init__(self, network: STUNet):
        super().__init__()
        self.network = network

    def forward(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        """(B, C, Z, Y, X) to (B, F, Z, Y, X)."""
        return self.network.forward_features(windows_BCZYX)


class WindowMaps(nn.Module):
    """One network, or several whose logits are averaged, as one: windows to maps from which `head_of` makes the logits.

    The maps are whichever are fewer: the decoder's last features, one network's beside the other's, or the mean logits.

    Args:
        networks: of one architecture, in evaluation mode; not changed.
        bodies: what gives each network's last features: `Features` of it, or a rewritten form.
    """

    def __init__(self, networks: Sequence[STUNet], bodies: Sequence[nn.Module]):
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
        total = self.heads[0](features[0])
        for head, maps in zip(self.heads[1:], features[1:], strict=True):
            total = total + head(maps)
        return (total / len(features)).movedim(1, -1)


def head_of(networks: Sequence[STUNet], device: torch.device) -> LinearHead:
    """From the maps of `WindowMaps` to the mean logits."""
    if _has_few_classes(networks):
        return identity_head(networks[0].config.num_classes, device)
    return mean_head([network.head for network in networks], device)


def _has_few_classes(networks: Sequence[STUNet]) -> bool:
    return networks[0].config.num_classes <= sum(network.head.in_channels for network in networks)
