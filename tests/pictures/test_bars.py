"""Figure 5 has a bar for each model of each group and system, as high as its DSC, and the differences below."""

from dataclasses import replace
from itertools import pairwise

import pytest
from matplotlib.colors import to_rgb

from stunet.experiments.figure_points import bars_of
from stunet.pictures.bars import draw_bars, short_names
from tests.experiments.invented import GROUPS, SIZES, experts


@pytest.fixture(scope="module")
def figure():
    return draw_bars(bars_of(experts()))


def test_each_model_is_a_bar_as_high_as_its_dsc(figure):
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert len(heights) == 2 * len(GROUPS) * len(SIZES)
    assert sorted(heights) == pytest.approx(sorted(100 * m.value for m in experts().measurements))
    assert figure.axes[0].get_ylim() == (0, 100)


def test_experts_are_hatched_and_lighter(figure):
    bars = figure.axes[0].patches
    hatched = [bar for bar in bars if bar.get_hatch()]
    dsc = {100 * m.value for m in experts().measurements if m.setting["model"] == "expert"}
    assert len(hatched) == 24 and all(min(abs(bar.get_height() - v) for v in dsc) < 1e-9 for bar in hatched)
    for expert, universal in zip(bars[::2], bars[1::2], strict=True):
        assert sum(to_rgb(expert.get_facecolor())) > sum(to_rgb(universal.get_facecolor()))


def test_the_lower_panel_is_universal_minus_expert(figure):
    found = iter(bar.get_height() for bar in figure.axes[1].patches)
    values = {(m.target, m.system, m.setting["model"]): 100 * m.value for m in experts().measurements}
    for system in SIZES:
        for group in GROUPS:
            assert next(found) == pytest.approx(values[group, system, "universal"] - values[group, system, "expert"])


def test_bars_do_not_overlap_and_stand_under_their_names(figure):
    upper, lower = figure.axes
    spans = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in upper.patches)
    assert all(a[1] <= b[0] + 1e-9 for a, b in pairwise(spans))
    assert [label.get_text() for label in upper.get_xticklabels()] == list("SBLH") * 6
    assert [text.get_text() for text in lower.texts] == list(GROUPS)


def test_a_model_that_is_not_there_leaves_its_place_empty():
    results = experts()
    alone = tuple(m for m in results.measurements if m.setting["model"] == "universal" or m.target != "all")
    upper, lower = draw_bars(bars_of(replace(results, measurements=alone))).axes
    assert (len(upper.patches), len(lower.patches)) == (44, 20)


def test_short_names_lose_what_all_share():
    assert short_names(SIZES) == dict(zip(SIZES, "SBLH", strict=True))
    assert short_names(["nnU-Net", "STU-Net-S"]) == {"nnU-Net": "nnU-Net", "STU-Net-S": "STU-Net-S"}
    assert short_names(["STU-Net", "STU-Net-S"]) == {"STU-Net": "Net", "STU-Net-S": "Net-S"}
    assert short_names(["STU-Net-S", "STU-Net, tiny"]) == {"STU-Net-S": "S", "STU-Net, tiny": "tiny"}
