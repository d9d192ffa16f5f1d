"""Measurements become points; what cannot be one figure is refused."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from stunet.errors import UserError
from stunet.experiments.figure_points import bars_of, bootstrap_interval, bubbles_of
from stunet.experiments.figures import draw_transfer_curve
from stunet.experiments.results import Measurement
from tests.experiments.invented import results_of, table3, transfer


def test_the_interval_is_scipys():
    values = np.random.default_rng(5).uniform(0, 100, 40)
    ours = bootstrap_interval(values.tolist())
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20000, rng=0).confidence_interval
    assert np.allclose(ours, theirs, atol=0.05 * (theirs.high - theirs.low))


def test_several_targets_need_one_that_stands_for_all():
    targets = [Measurement("s", "DSC", 0.5, target, {"cases": 2}) for target in ("liver", "spleen")]
    with pytest.raises(UserError, match="liver, spleen"):
        draw_transfer_curve(results_of("transfer", targets))
    mean = Measurement("s", "DSC", 0.25, "mean", {"cases": 2})
    figure = draw_transfer_curve(results_of("transfer", [*targets, mean]))
    assert list(figure.axes[0].lines[0].get_ydata()) == [25]


@pytest.mark.parametrize("setting", [{}, {"cases": "two"}, {"cases": True}])
def test_a_measurement_without_its_amount_is_refused(setting):
    with pytest.raises(UserError, match="'cases' should be a number"):
        draw_transfer_curve(results_of("transfer", [Measurement("s", "DSC", 0.5, "mean", setting)]))


def test_two_experiments_are_not_one_point():
    twice = [Measurement("s", "DSC", 0.5, "mean", {"cases": 2, "rate": rate}) for rate in (0.1, 0.2)]
    with pytest.raises(UserError, match="seed only"):
        draw_transfer_curve(results_of("transfer", twice))


def test_results_without_dsc_are_refused():
    empty = replace(transfer(), measurements=(Measurement("s", "DSC", None), Measurement("s", "NSD", 0.5)))
    with pytest.raises(UserError, match="no DSC"):
        draw_transfer_curve(empty)


def test_a_system_without_its_cost_is_named():
    results = table3()
    cut = tuple(m for m in results.measurements if (m.system, m.metric) != ("nnFormer", "mult-adds (T)"))
    with pytest.raises(UserError, match="nnFormer"):
        bubbles_of(replace(results, measurements=cut))


def test_measurements_of_neither_model_are_refused():
    with pytest.raises(UserError, match="'expert' or 'universal'"):
        bars_of(results_of("figure5", [Measurement("s", "DSC", 0.5, "organs")]))
