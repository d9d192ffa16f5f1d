"""Draw a preview of a segmentation: three planes through its centre, a projection, names and volumes.

The planes are arranged as in a technical drawing, coronal above axial and sagittal to the right of coronal, all at the
same scale, so that they are aligned. The projection, at the same scale, is to the right of the sagittal plane, with the
legend below both. If there are few structures and the scan is deep from front to back, projection and legend are below
the sagittal plane.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from matplotlib.figure import Figure

from stunet.files import printable, replacing
from stunet.imaging.volume import Volume
from stunet.pictures.display import SOFT_TISSUE_HU
from stunet.pictures.preview_legend import Legend, draw_legend, make_legend, shortened
from stunet.pictures.preview_planes import draw_plane
from stunet.pictures.preview_projection import draw_projection
from stunet.pictures.preview_scene import AXIAL, CORONAL, PROJECTION, SAGITTAL, Scene, View, make_scene
from stunet.pictures.style import CAPTION_POINTS, DIM_COLOUR, SCREEN_DPI, TEXT_COLOUR

ROW_INCHES, SQUARE_INCHES = 12.0, 8.2
"""Width of the upper row of views, with and without the projection; smaller if the picture would be taller than
`TALLEST_INCHES`."""

TALLEST_INCHES = 11.0

BACKGROUND_COLOUR = "#0d1015"

LEGEND_INCHES = 3.4
"""The minimum width of the legend."""

SQUARE_SLACK = 1.25
"""Projection and legend are below the sagittal plane if they need at most this many times the axial plane's height."""

TITLE_POINTS, LONGEST_TITLE = 15.0, 56
"""Font size of the title, and its maximum number of characters; longer titles are cut."""

MARGIN, GAP, TITLE, FOOTER = 0.28, 0.12, 0.52, 0.42
"""Inches around the picture, between views, for the title and for the footer."""

TOP = MARGIN + TITLE

Place = tuple[float, float, float, float]
"""Left, top, width and height in inches, from the upper left corner of the sheet."""


def save_preview(
    path: str | Path,
    volume: Volume,
    labels_ZYX: np.ndarray,
    names: Mapping[int, str],
    reference_ZYX: np.ndarray | None = None,
    dsc: Mapping[int, float] | None = None,
    title: str = "",
) -> None:
    """Draw a segmentation over its scan as a PNG file, in radiological display.

    It is thread-safe.

    Args:
        path: The picture. The file appears only when complete.
        volume: The scan, in any orientation; its first channel is drawn.
        labels_ZYX: (Z, Y, X) integers on the scan's grid; 0 is background.
        names: Label to structure; labels without a name are not drawn.
        reference_ZYX: Labels to compare with, on the same grid, drawn as white outlines on the planes.
        dsc: Label to Dice similarity coefficient, shown in the legend.
        title: Title above the planes, such as the scan's name.

    Raises:
        UserError: If the file cannot be written.
        ValueError: If labels or reference do not fit the scan.
    """
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        draw_preview(file, volume, labels_ZYX, names, reference_ZYX, dsc, title)


def draw_preview(
    file: IO[bytes],
    volume: Volume,
    labels_ZYX: np.ndarray,
    names: Mapping[int, str],
    reference_ZYX: np.ndarray | None = None,
    dsc: Mapping[int, float] | None = None,
    title: str = "",
) -> None:
    """Draw what `save_preview` draws into an open file."""
    for array in (labels_ZYX, reference_ZYX):
        if array is not None and array.shape != volume.shape:
            raise ValueError(f"labels of shape {array.shape} do not fit a scan of shape {volume.shape}")
    scene = make_scene(volume, labels_ZYX, reference_ZYX, names)
    legend = make_legend(labels_ZYX, names, float(np.prod(volume.spacing)), dsc, reference_ZYX is not None)
    figure = _draw(scene, legend, title, _footer(volume, scene.window))
    figure.savefig(file, format="png", facecolor=BACKGROUND_COLOUR)


@dataclass(frozen=True)
class _Sheet:
    """The layout in inches.

    Attributes:
        width: width of the picture.
        height: height of the picture.
        scale: inches per mm of the patient.
        views: view to its place.
        legend: place of the legend.
        blocks: number of blocks of the legend, side by side.
    """

    width: float
    height: float
    scale: float
    views: Mapping[View, Place]
    legend: Place
    blocks: int

    def fraction(self, place: Place) -> Place:
        """A place for matplotlib: left, bottom, width and height as fractions of the sheet."""
        left, top, width, height = place
        return left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height


def _sheet(extent: tuple[float, float, float], legend: Legend) -> _Sheet:
    """Lay out a scan of `extent` (Z, Y, X) mm: in a square if everything fits, otherwise with three views in a row."""
    height, depth, width = extent
    scale = _scale(width + depth, height + depth, SQUARE_INCHES)
    is_square = height * scale + GAP + legend.height(blocks=1) <= SQUARE_SLACK * depth * scale
    if not is_square:
        scale = _scale(2 * width + depth, height + depth, ROW_INCHES)
    z, y, x = (mm * scale for mm in extent)
    right, lower = MARGIN + x + GAP, TOP + z + GAP
    if is_square:  # projection below the sagittal plane, legend below the projection
        projection, legend_top = (right, lower, x, z), lower + z + GAP
        legend_width, legend_room, blocks = max(y, x, LEGEND_INCHES), y - z - GAP, 1
    else:  # projection to the right of the sagittal plane, legend to the right of the axial plane
        projection, legend_top = (right + y + GAP, TOP, x, z), lower
        legend_width, legend_room = max(y + GAP + x, LEGEND_INCHES), y
        blocks = legend.blocks(legend_width, legend_room)
    legend_height = max(legend_room, legend.height(blocks))
    return _Sheet(
        width=right + legend_width + MARGIN,
        height=legend_top + legend_height + FOOTER + MARGIN,
        scale=scale,
        views={
            CORONAL: (MARGIN, TOP, x, z),
            SAGITTAL: (right, TOP, y, z),
            AXIAL: (MARGIN, lower, x, y),
            PROJECTION: projection,
        },
        legend=(right, legend_top, legend_width, legend_height),
        blocks=blocks,
    )


def _scale(across: float, down: float, inches: float) -> float:
    """The largest scale in inches per mm at which this size in mm fits."""
    return min(inches / across, (TALLEST_INCHES - TOP - GAP - FOOTER - MARGIN) / down)


def _draw(scene: Scene, legend: Legend, title: str, footer: str) -> Figure:
    sheet = _sheet(scene.extent, legend)
    figure = Figure(figsize=(sheet.width, sheet.height), dpi=SCREEN_DPI)
    for view, place in sheet.views.items():
        draw = draw_projection if view is PROJECTION else partial(draw_plane, plane=view)
        draw(figure.add_axes(sheet.fraction(place)), scene, dots_per_mm=sheet.scale * SCREEN_DPI)
    axes = figure.add_axes(sheet.fraction(sheet.legend))
    draw_legend(axes, legend, scene.colours, sheet.legend[2:], sheet.blocks, 1 / sheet.scale)
    left, top, bottom = MARGIN / sheet.width, 1 - MARGIN / sheet.height, MARGIN / sheet.height
    heading = shortened(printable(title), LONGEST_TITLE)
    figure.text(left, top, heading, color=TEXT_COLOUR, size=TITLE_POINTS, weight="bold", va="top", parse_math=False)
    figure.text(left, bottom, footer, color=DIM_COLOUR, size=CAPTION_POINTS, va="bottom", parse_math=False)
    return figure


def _footer(volume: Volume, window: tuple[float, float]) -> str:
    size = " × ".join(str(n) for n in reversed(volume.shape))
    spacing = " × ".join(f"{mm:.3g}" for mm in reversed(volume.spacing))
    unit = " HU" if window == SOFT_TISSUE_HU else ""
    low, high = (f"{value:,.0f}" if window[1] - window[0] > 20 else f"{value:.3g}" for value in window)
    shown = f"window {low} to {high}{unit}".replace("-", "−")
    return f"{size} voxels of {spacing} mm    {shown}    radiological display    not for diagnosis"
