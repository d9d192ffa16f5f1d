"""A list of all networks for users: names, titles and sizes."""

from dataclasses import dataclass

from stunet.networks.cost import TABLE_CHANNELS, TABLE_CLASSES, count_parameters
from stunet.networks.network import without_weights
from stunet.networks.registry import NETWORKS, build, find_network
from stunet.plans.network_spec import NetworkSpec


@dataclass(frozen=True)
class ListedNetwork:
    """A network that `stunet.build_network` knows.

    Attributes:
        name: what `build_network` takes.
        title: what the paper calls it.
    """

    name: str
    title: str

    def parameters(self, input_channels: int = TABLE_CHANNELS, num_classes: int = TABLE_CLASSES) -> int:
        """Count the trainable parameters without allocating them, by default as in the paper's tables.

        Raises:
            UserError: the network's package is not installed.

        >>> ListedNetwork("base", "STU-Net-B").parameters()
        58262669
        """
        named = find_network(self.name)
        with without_weights():
            return count_parameters(build(NetworkSpec(named.kind, input_channels, num_classes, named.arguments)))


def list_networks() -> tuple[ListedNetwork, ...]:
    """All networks: the sizes of STU-Net first, then its variants and the systems compared in the paper."""
    return tuple(ListedNetwork(name, named.title) for name, named in NETWORKS.items())
