"""A hash of networks: the same for the same weights, layers and circumstances."""

import hashlib
from collections.abc import Sequence

from stunet.networks.network import Network


def digest_of(networks: Sequence[Network], *details: object) -> str:
    """A hash of networks of one architecture, in 32 hexadecimal digits.

    Args:
        networks: their weights and layers count.
        details: what else counts; hashed as `repr` shows it.
    """
    digest = hashlib.sha256(repr((networks[0].spec, *details)).encode())
    for network in networks:
        for key, tensor in network.state_dict().items():
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()[:32]
