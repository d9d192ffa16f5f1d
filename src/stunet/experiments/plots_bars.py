"""Figure 5: one universal model against an expert for each group of structures (section 4.4)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from stunet.errors import UserError
from stunet.experiments.plots_data import Point, distinct, measured, point_of, short_names
from stunet.experiments.plots_style import (
    GREY,
    INK,
    ONE_COLUMN,
    SMALL_POINTS,
    TWO_COLUMNS,
    Look,
    looks_of,
    new_figure,
    shows_paper,
    tinted,
)
from stunet.experiments.results import Measurement, Results

HEIGHT = 3.3
"""Inches."""

SIDE, PAIR_WIDTH = 0.6, 0.28
"""Inches for the axis, and for the two bars of a group and a system; the page limits their sum."""

MODEL, EXPERT, UNIVERSAL = "model", "expert", "universal"
"""The setting that tells the two apart, and its values."""

HATCH = "//////"
"""Of experts, so that they are told apart without colour."""

GROUP_WIDTH = 0.86
"""Of the room for a group, 1, that its bars fill together."""

LONGEST_LEVEL_NAME = 5
"""Letters; longer names of systems stand upright."""

Pairs = dict[tuple[str, str], dict[str, Point]]
"""Target and system to the points of both models."""


def draw_bars(results: Results) -> Figure:
    """Figure 5: above, the DSC of both models for each group and system; below, universal minus expert.

    Raises:
        UserError: no DSC with the setting `model`, "expert" or "universal".
    """
    pairs = pairs_of(measured(results, "DSC"))
    targets, systems = (distinct(key[i] for key in pairs) for i in (0, 1))
    looks = looks_of(systems)
    width = SIDE + PAIR_WIDTH * len(targets) * len(systems)
    figure = new_figure(results, min(max(width, ONE_COLUMN), TWO_COLUMNS), HEIGHT)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.8, 1))
    step = GROUP_WIDTH / len(systems)
    for (target, system), models in pairs.items():
        place = targets.index(target) + (systems.index(system) - (len(systems) - 1) / 2) * step
        _draw_models(upper, place, step, models, looks[system], shows_paper(results))
        _draw_difference(lower, place, step, models, looks[system])
    _finish(upper, lower, targets, systems, step)
    return figure


def pairs_of(measurements: Sequence[Measurement]) -> Pairs:
    """Both models' points of each target and system, in the order of the results.

    Raises:
        UserError: measurements without the setting, or none with it.
    """
    pairs: Pairs = {}
    for target, system in dict.fromkeys((m.target or "", m.system) for m in measurements):
        own = [m for m in measurements if (m.target or "", m.system) == (target, system)]
        models = {kind: [m for m in own if m.setting.get(MODEL) == kind] for kind in (EXPERT, UNIVERSAL)}
        if sum(map(len, models.values())) < len(own):
            raise UserError(f"{system}, {target}: the setting '{MODEL}' should be '{EXPERT}' or '{UNIVERSAL}'.")
        pairs[target, system] = {kind: point_of(runs) for kind, runs in models.items() if runs}
    return pairs


def _draw_models(axes: Axes, place: float, step: float, models: dict[str, Point], look: Look, with_paper: bool) -> None:
    """Two bars side by side, with the interval or the single runs on each."""
    width = 0.42 * step
    for side, (kind, hatch, colour) in zip((-0.5, 0.5), _kinds(look), strict=True):
        if kind not in models:
            continue
        point, x = models[kind], place + side * width
        axes.bar(x, point.value, width, color=colour, edgecolor=look.colour, hatch=hatch, lw=0.5, zorder=2)
        if point.interval:
            axes.vlines(x, *point.interval, color=INK, lw=0.6, zorder=3)
        if len(point.runs) > 1:
            axes.scatter([x] * len(point.runs), point.runs, s=3, color=INK, lw=0, zorder=3)
        if with_paper and point.paper is not None:
            axes.plot(x, point.paper, marker="_", ms=4, mew=0.9, color=INK, label="_paper", zorder=4)


def _kinds(look: Look) -> tuple[tuple[str, str, object], ...]:
    return (EXPERT, HATCH, tinted(look.colour)), (UNIVERSAL, "", look.colour)


def _draw_difference(axes: Axes, place: float, step: float, models: dict[str, Point], look: Look) -> None:
    if len(models) == 2:
        difference = models[UNIVERSAL].value - models[EXPERT].value
        axes.bar(place, difference, 0.6 * step, color=look.colour, lw=0, zorder=2)


def _finish(upper: Axes, lower: Axes, targets: Sequence[str], systems: Sequence[str], step: float) -> None:
    """Names, limits and legend."""
    upper.set(ylabel="DSC (%)", ylim=(0, 100))
    lower.set_ylabel("universal − expert\n(points)")
    lower.axhline(0, color=INK, lw=0.6, zorder=3)
    upper.set_xlim(-0.5, len(targets) - 0.5)
    upper.tick_params(axis="x", length=0)
    short = short_names(systems)
    offsets = (np.arange(len(systems)) - (len(systems) - 1) / 2) * step
    places = [group + offset for group in range(len(targets)) for offset in offsets]
    upright = max(map(len, short.values())) > LONGEST_LEVEL_NAME
    upper.set_xticks(places, [short[system] for _ in targets for system in systems], rotation=90 if upright else 0)
    upper.tick_params(axis="x", labelbottom=True)
    lower.tick_params(axis="x", length=0, labelbottom=False)
    for group, target in enumerate(targets):
        lower.text(group, -0.04, target, transform=lower.get_xaxis_transform(), ha="center", va="top")
    handles: list[Artist] = [
        Patch(facecolor=tinted(GREY), edgecolor=GREY, hatch=HATCH, lw=0.5, label="expert"),
        Patch(facecolor=GREY, edgecolor=GREY, lw=0.5, label="universal"),
    ]
    if any(line.get_label() == "_paper" for line in upper.lines):
        handles.append(Line2D([], [], ls="", marker="_", ms=4, mew=0.9, color=INK, label="paper"))
    upper.legend(
        handles=handles, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, fontsize=SMALL_POINTS
    )
