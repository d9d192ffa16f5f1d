"""Draw DSC against amount of data: Figure 4 (section 4.3.4), and fine-tuning against training from scratch."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from stunet.pictures.name_placement import label_line_ends
from stunet.pictures.style import GREY, ONE_COLUMN, TWO_COLUMNS, Look, Point, looks_of, new_figure

HEIGHT = 2.6
"""Inches."""

RUNS_ASIDE = 5.0
"""Points by which single runs are shifted to the right, so that the mean does not cover them."""

Curve = Mapping[float, Point]
"""Amount of data to DSC in per cent, amounts ascending."""


def draw_curves(panels: Mapping[str, Mapping[str, Curve]], title: str, unit: str = "", stamp: str = "") -> Figure:
    """One curve per system through the means, with single runs as open markers next to it, or intervals as bars.

    Args:
        panels: title of a panel ("" for none) to system to curve.
        title: title of the axis with the amount of data.
        unit: unit after each tick of that axis.
        stamp: text above the figure.
    """
    figure = new_figure(ONE_COLUMN if len(panels) == 1 else TWO_COLUMNS, HEIGHT, stamp)
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    looks = looks_of(system for curves in panels.values() for system in curves)
    for axes, (dataset, curves) in zip(all_axes, panels.items(), strict=True):
        for system, curve in curves.items():
            _draw_curve(axes, system, curve, looks[system])
            _draw_paper(axes, curve, looks[system])
        _set_amounts(axes, sorted(set().union(*curves.values())), unit)
        axes.set(title=dataset, xlabel=title)
    all_axes[0].set_ylabel("DSC (%)")
    for axes, curves in zip(all_axes, panels.values(), strict=True):
        figure.draw_without_rendering()  # names in one panel may move the others
        ends = {system: max(curve.items(), key=lambda item: item[0]) for system, curve in curves.items()}
        label_line_ends(axes, {system: (x, point.value) for system, (x, point) in ends.items()}, looks)
    return figure


def _draw_curve(axes: Axes, system: str, curve: Curve, look: Look) -> None:
    means = [point.value for point in curve.values()]
    axes.plot(list(curve), means, color=look.colour, ls=look.line, marker=look.marker, label=system, zorder=3)
    for x, point in curve.items():
        if point.interval:
            axes.vlines(x, *point.interval, color=look.colour, lw=0.8, zorder=2)
    runs = [(x, run) for x, point in curve.items() if len(point.runs) > 1 for run in point.runs]
    if runs:
        aside = axes.transData + ScaledTranslation(RUNS_ASIDE / 72, 0, axes.figure.dpi_scale_trans)
        axes.plot(
            *zip(*runs, strict=True), ls="", marker=look.marker, ms=2.6, mew=0.6, mfc="white", mec=look.colour,
            label="_runs", zorder=4, transform=aside,
        )  # fmt: skip
        axes.update_datalim(runs)


def _draw_paper(axes: Axes, curve: Curve, look: Look) -> None:
    printed = {x: point.paper for x, point in curve.items() if point.paper is not None}
    if printed:
        axes.plot(
            list(printed), list(printed.values()), ls="", marker=look.marker, ms=6, mew=0.8, mfc="none",
            mec=look.colour, label="_paper", zorder=1,
        )  # fmt: skip
        axes.legend(handles=[Line2D([], [], ls="", marker="o", ms=6, mew=0.8, mfc="none", mec=GREY, label="paper")])


def _set_amounts(axes: Axes, values: Sequence[float], unit: str) -> None:
    """A logarithmic axis with a tick at each amount; linear near zero if an amount is zero."""
    if values[0] > 0:
        axes.set_xscale("log")
    else:
        axes.set_xscale("symlog", linthresh=min((x for x in values if x > 0), default=1.0))
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}{unit}")
