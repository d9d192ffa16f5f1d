"""Runs that count what a network costs, for the columns "Params" and "FLOPs" of the paper's tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from stunet.experiments.recipe import Expected, Workplace, measured
from stunet.experiments.results import Measurement

PARAMETERS, MULT_ADDS, MACS = "parameters (M)", "mult-adds (T)", "MACs (T)"
"""Metrics: the paper's "Params"; its "FLOPs", which are torchinfo's mult-adds; what is really multiplied."""

MULT_ADDS_REMARK = (
    "The paper's FLOPs are torchinfo's mult-adds. They count a transposed convolution at its output's size (eight "
    "times too much), a linear layer once, and attention not at all; MACs are what is really multiplied."
)


@dataclass(frozen=True)
class NetworkCount:
    """Counts one network.

    Attributes:
        system: as the paper names it.
        network: a name that `build_network` knows.
        parameters: millions that the paper prints.
        mult_adds: tera "FLOPs" that it prints.
        source: where: "Table 2".
    """

    system: str
    network: str
    parameters: str
    mult_adds: str
    source: str

    @property
    def key(self) -> str:
        """Name of the run."""
        return f"count-{self.network}"

    @property
    def datasets(self) -> tuple[str, ...]:
        """None."""
        return ()

    def gpu_hours(self) -> float:
        """None."""
        return 0.0

    def expected(self) -> Sequence[Measurement]:
        """The two numbers that the paper prints."""
        return self._measurements(None, None, None)

    def measure(self, workplace: Workplace) -> Sequence[Measurement]:
        """Counts, with 1 input channel, 105 classes and a patch of 128 x 128 x 128, as the paper does."""
        from stunet.networks.cost import cost_by_name

        cost = cost_by_name(self.network)
        return self._measurements(cost.parameters / 1e6, cost.torchinfo_mult_adds / 1e12, cost.macs / 1e12)

    def _measurements(
        self, parameters: float | None, mult_adds: float | None, macs: float | None
    ) -> tuple[Measurement, ...]:
        return (
            measured(self.system, PARAMETERS, parameters, Expected(self.parameters, self.source)),
            measured(self.system, MULT_ADDS, mult_adds, Expected(self.mult_adds, self.source)),
            measured(self.system, MACS, macs),
        )
