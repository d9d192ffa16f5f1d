"""Draw Figure 5: one universal model against an expert model for each group of structures (section 4.4)."""

import re
from collections.abc import Mapping, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from stunet.pictures.style import GREY, INK, ONE_COLUMN, TWO_COLUMNS, Look, Point, looks_of, new_figure, tinted

HEIGHT = 3.3
"""Inches."""

SIDE, PAIR_WIDTH = 0.6, 0.28
"""Inches for the axis, and for the two bars of a group and system; the page limits the total width."""

EXPERT, UNIVERSAL = "expert", "universal"
"""Names of the two models."""

HATCH = "//////"
"""Hatching of experts, to distinguish them without colour."""

GROUP_WIDTH = 0.86
"""Share of a group's width that its bars fill."""

LONGEST_LEVEL_NAME = 5
"""Characters; longer names of systems are rotated."""

Models = Mapping[str, Point]
"""`EXPERT`, `UNIVERSAL` or both to the DSC in per cent."""


def draw_bars(pairs: Mapping[tuple[str, str], Models], stamp: str = "") -> Figure:
    """Draw Figure 5: the DSC of both models for each group and system, and below it universal minus expert.

    Args:
        pairs: target and system to their models.
        stamp: text above the figure.
    """
    targets, systems = (list(dict.fromkeys(names)) for names in zip(*pairs, strict=True))
    looks = looks_of(systems)
    width = SIDE + PAIR_WIDTH * len(targets) * len(systems)
    figure = new_figure(min(max(width, ONE_COLUMN), TWO_COLUMNS), HEIGHT, stamp)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.8, 1))
    step = GROUP_WIDTH / len(systems)
    offsets = {system: (place - (len(systems) - 1) / 2) * step for place, system in enumerate(systems)}
    for (target, system), models in pairs.items():
        place = targets.index(target) + offsets[system]
        _draw_models(upper, place, step, models, looks[system])
        if len(models) == 2:
            difference = models[UNIVERSAL].value - models[EXPERT].value
            lower.bar(place, difference, 0.6 * step, color=looks[system].colour, lw=0, zorder=2)
    _name_bars(upper, lower, targets, offsets)
    _add_legend(upper)
    return figure


def _draw_models(axes: Axes, place: float, step: float, models: Models, look: Look) -> None:
    """Two bars side by side, each with its interval or single runs."""
    width = 0.42 * step
    for side, kind, hatch, colour in ((-0.5, EXPERT, HATCH, tinted(look.colour)), (0.5, UNIVERSAL, "", look.colour)):
        if kind not in models:
            continue
        point, x = models[kind], place + side * width
        axes.bar(x, point.value, width, color=colour, edgecolor=look.colour, hatch=hatch, lw=0.5, zorder=2)
        if point.interval:
            axes.vlines(x, *point.interval, color=INK, lw=0.6, zorder=3)
        if len(point.runs) > 1:
            axes.scatter([x] * len(point.runs), point.runs, s=3, color=INK, lw=0, zorder=3)
        if point.paper is not None:
            axes.plot(x, point.paper, marker="_", ms=4, mew=0.9, color=INK, label="_paper", zorder=4)


def _name_bars(upper: Axes, lower: Axes, targets: Sequence[str], offsets: Mapping[str, float]) -> None:
    """Set titles, limits, and the names of systems and targets."""
    upper.set(ylabel="DSC (%)", ylim=(0, 100), xlim=(-0.5, len(targets) - 0.5))
    lower.set_ylabel("universal − expert\n(points)")
    lower.axhline(0, color=INK, lw=0.6, zorder=3)
    short = short_names(list(offsets))
    places = [group + offset for group in range(len(targets)) for offset in offsets.values()]
    upright = max(map(len, short.values())) > LONGEST_LEVEL_NAME
    upper.set_xticks(places, list(short.values()) * len(targets), rotation=90 if upright else 0)
    upper.tick_params(axis="x", length=0, labelbottom=True)
    lower.tick_params(axis="x", length=0, labelbottom=False)
    for group, target in enumerate(targets):
        lower.text(group, -0.04, target, transform=lower.get_xaxis_transform(), ha="center", va="top")


def _add_legend(axes: Axes) -> None:
    handles: list[Artist] = [
        Patch(facecolor=tinted(GREY), edgecolor=GREY, hatch=HATCH, lw=0.5, label="expert"),
        Patch(facecolor=GREY, edgecolor=GREY, lw=0.5, label="universal"),
    ]
    if any(line.get_label() == "_paper" for line in axes.lines):
        handles.append(Line2D([], [], ls="", marker="_", ms=4, mew=0.9, color=INK, label="paper"))
    axes.legend(handles=handles, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Names without their common first words; words end at a hyphen, comma or space.

    >>> short_names(["STU-Net-S", "STU-Net, tiny"])
    {'STU-Net-S': 'S', 'STU-Net, tiny': 'tiny'}
    >>> short_names(["base", "basic"]), short_names(["STU-Net-S"])
    ({'base': 'base', 'basic': 'basic'}, {'STU-Net-S': 'S'})
    """
    words = [[word for word in re.split("[-, ]+", name) if word] for name in names]
    first, longest = words[0], min(map(len, words)) - 1
    shared = next((i for i in range(longest) if any(own[i] != first[i] for own in words)), longest)
    if not shared:  # for `split`, 0 would mean no limit
        return {name: name for name in names}
    return {name: re.split("[-, ]+", name, maxsplit=shared)[-1] for name in names}
