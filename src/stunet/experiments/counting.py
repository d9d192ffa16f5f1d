"""Runs that compute the cost of a network: the columns "Params" and "FLOPs" of the paper's tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from stunet.experiments.experiment import Expected, Experiment, ExperimentRun, Workplace, measured
from stunet.experiments.results import Measurement

PARAMETERS, MULT_ADDS, MACS = "parameters (M)", "mult-adds (T)", "MACs (T)"
"""Metrics: the paper's "Params"; its "FLOPs", which are torchinfo's mult-adds; and true multiply-accumulates."""

MULT_ADDS_REMARK = (
    "The paper's FLOPs are torchinfo's mult-adds. They count a transposed convolution at its output's size (eight "
    "times too much), a linear layer once, and attention not at all; MACs are what is really multiplied."
)


@dataclass(frozen=True)
class NetworkCount(ExperimentRun):
    """Counts one network with 1 input channel, 105 classes and a patch of 128 x 128 x 128, as the paper does.

    Attributes:
        system: the name in the table.
        network: a name in `stunet.networks.registry.NETWORKS`, which also has the paper's numbers.
        source: the table.
    """

    system: str
    network: str
    source: str

    @property
    def key(self) -> str:
        """Name of the run."""
        return f"count-{self.network}"

    def expected(self) -> Sequence[Measurement]:
        """The two numbers that the paper prints, if it includes this network."""
        return self._measurements((None, None, None))

    def measure(self, workplace: Workplace) -> Sequence[Measurement]:
        """Count on the meta device.

        Raises:
            UserError: the network's package is not installed.
        """
        from stunet.networks.cost import cost_of

        cost = cost_of(self.network)
        return self._measurements((cost.parameters / 1e6, cost.torchinfo_mult_adds / 1e12, cost.macs / 1e12))

    def _measurements(self, values: Sequence[float | None]) -> list[Measurement]:
        """Parameters and mult-adds with the paper's values, if any, and MACs, for which the paper has none."""
        from stunet.networks.registry import find_network

        published = find_network(self.network).published
        printed = (published.parameters, published.flops, None) if published else (None, None, None)
        return [
            measured(self.system, metric, value, None if number is None else Expected(number, self.source))
            for metric, value, number in zip((PARAMETERS, MULT_ADDS, MACS), values, printed, strict=True)
        ]


def cost_experiment(name: str, title: str, shows: str, source: str, systems: Sequence[tuple[str, str]]) -> Experiment:
    """An experiment that only counts (system, network), in both profiles. The texts are those of `Experiment`."""
    table = source.split(",")[0]
    runs = tuple(NetworkCount(system, network, table) for system, network in systems)
    return Experiment(name, title, shows, source, runs, runs, remarks=(MULT_ADDS_REMARK,))
