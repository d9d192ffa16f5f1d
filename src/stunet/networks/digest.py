"""Hashes of networks: the same for the same weights, layers and circumstances."""

from collections.abc import Sequence
from hashlib import sha256

import torch

from stunet.networks.network import Network


def weights_sha256(networks: Sequence[Network]) -> str:
    """A SHA-256 of all weights, with their names: the same for the same numbers, whatever file they came from."""
    digest = sha256()
    for network in networks:
        for name, tensor in network.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def digest_of(networks: Sequence[Network], *details: object) -> str:
    """A hash of networks of one architecture, in 32 hexadecimal digits.

    Args:
        networks: their weights and layers count.
        details: what else counts; hashed as `repr` shows it.
    """
    return sha256(repr((networks[0].spec, weights_sha256(networks), *details)).encode()).hexdigest()[:32]
