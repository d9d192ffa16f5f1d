"""All experiments by name. A new table or figure is one more line here."""

from stunet.errors import UnknownNameError
from stunet.experiments import figure4, figure5, table2, table3, table4, table5, table6, table7, table8
from stunet.experiments.experiment import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        table2.EXPERIMENT,
        table3.EXPERIMENT,
        table3.COST,
        table4.EXPERIMENT,
        table5.EXPERIMENT,
        table6.EXPERIMENT,
        table6.COST,
        table7.EXPERIMENT,
        table7.COST,
        table8.EXPERIMENT,
        figure4.EXPERIMENT,
        figure5.EXPERIMENT,
    )
}
"""One module per table or figure. Its docstring has the command, the cost and the expected result."""


def find_experiment(name: str) -> Experiment:
    """The experiment with that name.

    Raises:
        UserError: it does not exist.
    """
    if name not in EXPERIMENTS:
        raise UnknownNameError.of("experiment", name, EXPERIMENTS)
    return EXPERIMENTS[name]
