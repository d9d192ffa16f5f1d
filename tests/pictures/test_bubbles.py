"""Figure 1 shows each system once, at its values, with an area for its parameters and its name next to it."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.offsetbox import AnchoredOffsetbox

from stunet.experiments.figure_points import bubbles_of
from stunet.experiments.results import Measurement
from stunet.pictures.bubbles import draw_bubbles
from stunet.pictures.style import figure_style
from tests.experiments.invented import TABLE3, table3


@pytest.fixture(scope="module")
def figure():
    with figure_style():
        return draw_bubbles(bubbles_of(table3()))


def discs_of(figure):
    return [c for c in figure.axes[0].collections if isinstance(c, PathCollection)]


def test_every_system_is_a_bubble_at_its_numbers(figure):
    drawn = {tuple(np.round(disc.get_offsets()[0], 6)) for disc in discs_of(figure)}
    assert drawn == {(flops, dsc[-1]) for _, flops, *dsc in TABLE3.values()}


def test_areas_are_proportional_to_parameters(figure):
    areas = {round(float(disc.get_offsets()[0][1]), 2): float(disc.get_sizes()[0]) for disc in discs_of(figure)}
    per_million = [areas[dsc[-1]] / parameters for parameters, _, *dsc in TABLE3.values()]
    assert np.allclose(per_million, per_million[0])


def test_families_are_joined_and_told_apart(figure):
    families = {line.get_label(): line for line in figure.axes[0].lines if line.get_label() != "paper"}
    assert list(families) == ["nnU-Net", "nnFormer", "UNETR", "SwinUNETR", "STU-Net"]
    assert list(families["STU-Net"].get_ydata()) == pytest.approx([83.74, 87.12, 88.71, 90.06])
    assert len({(line.get_marker(), str(line.get_linestyle())) for line in families.values()}) == 5


def test_names_stand_beside_their_bubbles_and_off_each_other(figure):
    names = {text.get_text(): text for text in figure.axes[0].texts}
    assert set(names) == set(TABLE3)
    figure.draw_without_rendering()
    boxes = {name: text.get_window_extent() for name, text in names.items()}
    assert not [pair for pair in combinations(boxes, 2) if boxes[pair[0]].overlaps(boxes[pair[1]])]
    frame = figure.axes[0].bbox
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 <= frame.y1 for box in boxes.values())


def sizes_legend(figure):
    (legend,) = (artist for artist in figure.axes[0].artists if isinstance(artist, AnchoredOffsetbox))
    return legend


@pytest.mark.parametrize(("profile", "moved"), [("full", {}), ("mini", {"nnFormer": (20.0, 60.0)})])
def test_the_legend_of_the_areas_stands_where_no_bubble_is(profile, moved):
    results = table3(profile)
    measurements = tuple(
        replace(m, value=moved[m.system][0] if m.metric == "mult-adds (T)" else moved[m.system][1] / 100)
        if m.system in moved and (m.metric == "mult-adds (T)" or m.target == "all")
        else m
        for m in results.measurements
    )
    with figure_style():
        figure = draw_bubbles(bubbles_of(replace(results, measurements=measurements)))
    figure.draw_without_rendering()
    legend = sizes_legend(figure).get_window_extent()
    centres = [figure.axes[0].transData.transform(disc.get_offsets()[0]) for disc in discs_of(figure)]
    assert not [centre for centre in centres if legend.contains(*centre)]


def test_no_bubble_is_cut_off(figure):
    axes = figure.axes[0]
    for disc in discs_of(figure):
        centre = axes.transData.transform(disc.get_offsets()[0])
        radius = disc.get_sizes()[0] ** 0.5 / 2 * figure.dpi / 72
        assert (centre - radius >= axes.bbox.p0).all() and (centre + radius <= axes.bbox.p1).all()


def test_seeds_are_one_bubble_at_their_mean_and_a_dot_each():
    results = table3("mini")
    costs = tuple(m for m in results.measurements if m.metric != "DSC" and m.system == "STU-Net-S")
    runs = tuple(Measurement("STU-Net-S", "DSC", dsc, "all", {"seed": s}) for s, dsc in enumerate((0.5, 0.6, 0.85)))
    bubble, dots = discs_of(draw_bubbles(bubbles_of(replace(results, measurements=costs + runs))))
    assert bubble.get_offsets()[0][1] == pytest.approx(65)
    assert list(dots.get_offsets()[:, 1]) == [50, 60, 85]
