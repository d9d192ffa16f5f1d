"""Curves pass through the results; each seed is drawn, and systems can be distinguished without colour."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from stunet.experiments.figures import draw_data_size, draw_transfer_curve
from stunet.experiments.results import Measurement
from tests.experiments.invented import SIZES, data_size, results_of, transfer


def curves_of(figure):
    return {line.get_label(): line for line in figure.axes[0].lines if not line.get_label().startswith("_")}


def test_figure_4_has_a_curve_for_each_size_through_its_values():
    results = data_size()
    curves = curves_of(figure := draw_data_size(results))
    assert tuple(curves) == SIZES
    for system, line in curves.items():
        own = [m for m in results.measurements if m.system == system]
        assert np.allclose(line.get_xdata(), [5, 10, 20, 50, 100])
        assert np.allclose(line.get_ydata(), [100 * m.value for m in own])
    assert len({(line.get_marker(), str(line.get_linestyle())) for line in curves.values()}) == 4
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["5 %", "10 %", "20 %", "50 %", "100 %"]


def test_names_at_the_ends_do_not_overlap():
    figure = draw_data_size(data_size())
    figure.draw_without_rendering()
    assert {text.get_text() for text in figure.axes[0].texts} == set(SIZES)
    boxes = sorted((text.get_window_extent() for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert all(lower.y1 <= upper.y0 for lower, upper in pairwise(boxes))
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)


def test_bars_are_the_bootstrap_interval_over_cases():
    figure = draw_data_size(data_size())
    bars = [c for c in figure.axes[0].collections if len(c.get_segments()) == 1]
    assert len(bars) == 20
    first = data_size().measurements[0]
    (_, low), (_, high) = bars[0].get_segments()[0]
    assert low < 100 * first.value < high


def test_the_transfer_curve_shows_means_and_each_of_three_seeds():
    results = transfer()
    axes = draw_transfer_curve(results).axes[0]
    curves = curves_of(axes.figure)
    assert list(curves) == ["pre-trained", "scratch"]
    runs = [line for line in axes.lines if line.get_label() == "_runs"]
    for (system, curve), dots in zip(curves.items(), runs, strict=True):
        own = {
            (m.setting["cases"], m.setting["seed"]): 100 * m.value for m in results.measurements if m.system == system
        }
        assert sorted(dots.get_ydata()) == pytest.approx(sorted(own.values()))
        assert list(curve.get_xdata()) == [2, 4, 8, 16, 32]
        for cases, mean in zip(curve.get_xdata(), curve.get_ydata(), strict=True):
            assert mean == pytest.approx(sum(own[cases, seed] for seed in range(3)) / 3)
        low, high = axes.get_ylim()
        assert low < min(own.values()) and max(own.values()) < high


def test_each_dataset_has_a_panel():
    first, second = "Dataset012_HippocampusFew", "Dataset901_STSPET"
    both = [
        replace(m, setting={**m.setting, "dataset": dataset}, value=m.value - less)
        for dataset, less in ((first, 0.0), (second, 0.25))
        for m in transfer().measurements
    ]
    figure = draw_transfer_curve(results_of("transfer", both))
    assert [axes.get_title() for axes in figure.axes] == ["HippocampusFew", "STSPET"]
    left, right = ({line.get_label(): line for line in axes.lines} for axes in figure.axes)
    for system in ("pre-trained", "scratch"):
        assert np.allclose(left[system].get_ydata() - 25, right[system].get_ydata())
        assert left[system].get_marker() == right[system].get_marker()


def test_a_curve_may_begin_with_no_cases():
    measurements = [Measurement("s", "DSC", 0.1 + n / 100, None, {"cases": n}) for n in (0, 1, 10)]
    axes = draw_transfer_curve(results_of("transfer", measurements)).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "10"]
    places = axes.transData.transform(axes.lines[0].get_xydata())[:, 0]
    assert places[0] < places[1] < places[2]
