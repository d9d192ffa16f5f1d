"""Curves of DSC against an amount of data: Figure 4 (section 4.3.4), and fine-tuning against training from scratch."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from stunet.experiments.plots_data import Point, distinct, headline, measured, number_in, point_of
from stunet.experiments.plots_labels import label_line_ends
from stunet.experiments.plots_style import GREY, ONE_COLUMN, TWO_COLUMNS, Look, looks_of, new_figure, shows_paper
from stunet.experiments.results import Measurement, Results

HEIGHT = 2.6
"""Inches."""

_NUMBER = re.compile(r"^Dataset\d+_")

RUNS_ASIDE = 5.0
"""Points to the right of the mean, where single runs are drawn so that it does not cover them."""


@dataclass(frozen=True)
class Amount:
    """The axis along which the data grow.

    Attributes:
        key: name of the setting that holds the amount.
        title: of the axis.
        unit: written after each tick.
        scale: by which the setting is multiplied.
    """

    key: str
    title: str
    unit: str = ""
    scale: float = 1.0


FRACTION = Amount("fraction", "Share of the training cases", " %", 100)
CASES = Amount("cases", "Training cases")


def draw_data_size(results: Results) -> Figure:
    """Figure 4: DSC of each system against the share of training cases (setting `fraction`, 0 to 1)."""
    return draw_curves(results, FRACTION)


def draw_transfer_curve(results: Results) -> Figure:
    """DSC against the number of cases (setting `cases`), pre-trained and from scratch; each seed and their mean.

    Several datasets (setting `dataset`) have a panel each.
    """
    return draw_curves(results, CASES)


def draw_curves(results: Results, amount: Amount) -> Figure:
    """One curve for each system through the means, with single runs as open marks beside it, or intervals as bars.

    Datasets, the setting `dataset`, have a panel each.

    Raises:
        UserError: no DSC among the results, or an amount that is missing.
    """
    panels = panels_of(headline(measured(results, "DSC")))
    figure = new_figure(results, ONE_COLUMN if len(panels) == 1 else TWO_COLUMNS, HEIGHT)
    line_of_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    looks = looks_of(measurement.system for panel in panels.values() for measurement in panel)
    ends = []
    for axes, (dataset, panel) in zip(line_of_axes, panels.items(), strict=True):
        curves = curves_of(panel, amount)
        for system, points in curves.items():
            _draw_curve(axes, system, points, looks[system])
            if shows_paper(results):
                _draw_paper(axes, points, looks[system])
        _set_amounts(axes, amount, sorted({x for points in curves.values() for x in points}))
        axes.set_title(dataset)
        ends.append({system: (max(points), points[max(points)].value) for system, points in curves.items()})
    line_of_axes[0].set_ylabel("DSC (%)")
    for axes, last in zip(line_of_axes, ends, strict=True):  # once the layout of all is settled
        label_line_ends(axes, last, {system: look.letters for system, look in looks.items()})
    return figure


def panels_of(measurements: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """Title to measurements: the setting `dataset` without nnU-Net's number, "" where there is none."""
    panels: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        title = _NUMBER.sub("", str(measurement.setting.get("dataset", "")))
        panels.setdefault(title, []).append(measurement)
    return panels


def curves_of(measurements: Sequence[Measurement], amount: Amount) -> dict[str, dict[float, Point]]:
    """System to amount to point, amounts ascending, systems in the order of the results."""
    curves: dict[str, dict[float, Point]] = {}
    for system in distinct(measurement.system for measurement in measurements):
        own = sorted((m for m in measurements if m.system == system), key=lambda m: number_in(m, amount.key))
        groups = groupby(own, key=lambda m: amount.scale * number_in(m, amount.key))
        curves[system] = {x: point_of(list(group)) for x, group in groups}
    return curves


def _draw_curve(axes: Axes, system: str, points: Mapping[float, Point], look: Look) -> None:
    means = [point.value for point in points.values()]
    axes.plot(list(points), means, color=look.colour, ls=look.line, marker=look.marker, label=system, zorder=3)
    for x, point in points.items():
        if point.interval:
            axes.vlines(x, *point.interval, color=look.colour, lw=0.8, zorder=2)
    runs = [(x, run) for x, point in points.items() if len(point.runs) > 1 for run in point.runs]
    if runs:
        aside = axes.transData + ScaledTranslation(RUNS_ASIDE / 72, 0, axes.figure.dpi_scale_trans)
        axes.plot(
            *zip(*runs, strict=True), ls="", marker=look.marker, ms=2.6, mew=0.6, mfc="white", mec=look.colour,
            label="_runs", zorder=4, transform=aside,
        )  # fmt: skip
        axes.update_datalim(runs)


def _draw_paper(axes: Axes, points: Mapping[float, Point], look: Look) -> None:
    printed = {x: point.paper for x, point in points.items() if point.paper is not None}
    if printed:
        axes.plot(
            list(printed), list(printed.values()), ls="", marker=look.marker, ms=6, mew=0.8, mfc="none",
            mec=look.colour, label="_paper", zorder=1,
        )  # fmt: skip
        axes.legend(handles=[Line2D([], [], ls="", marker="o", ms=6, mew=0.8, mfc="none", mec=GREY, label="paper")])


def _set_amounts(axes: Axes, amount: Amount, values: Sequence[float]) -> None:
    """A logarithmic axis with a tick at each amount; linear near nothing where an amount is nothing."""
    if values[0] > 0:
        axes.set_xscale("log")
    else:
        axes.set_xscale("symlog", linthresh=min((x for x in values if x > 0), default=1.0))
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}{amount.unit}")
    axes.set_xlabel(amount.title)
