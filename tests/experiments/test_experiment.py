"""Experiments: numbers as the paper prints them, and the sums over the runs."""

from dataclasses import dataclass

import pytest

from stunet.experiments.experiment import MINI_REMARK, Expected, Experiment, measured


@dataclass(frozen=True)
class Run:
    key: str
    datasets: tuple[str, ...] = ()
    hours: float = 0.0

    def gpu_hours(self):
        return self.hours

    def expected(self):
        return []

    def measure(self, workplace):
        return [measured(self.key, "DSC", 0.5)]


def test_a_measurement_takes_the_papers_number_in_our_unit():
    measurement = measured("STU-Net-B", "DSC", 0.87123, Expected("87.12", "Table 3", percent=True), "all")
    assert (measurement.paper, measurement.paper_decimals, measurement.source) == (0.8712, 4, "Table 3")
    assert measurement.agrees
    assert measured("STU-Net-B", "DSC", 0.5).paper is None


def test_an_experiment_adds_up_its_runs():
    full = (Run("a", ("amos22",), 2.0), Run("b", ("flare22", "amos22"), 3.0))
    experiment = Experiment("table5", "Fine-tuning", "It helps.", "Table 5", full, (Run("c"),), remarks=("Note.",))
    assert experiment.gpu_hours("full") == 5.0
    assert experiment.datasets("full") == ("amos22", "flare22")
    assert experiment.all_remarks("full") == ("Note.",)
    assert experiment.all_remarks("mini") == ("Note.", MINI_REMARK)
    with pytest.raises(ValueError, match="one key"):
        Experiment("x", "", "", "", (Run("a"), Run("a")), ())
