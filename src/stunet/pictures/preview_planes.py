"""Draw the planes of a preview: slices of the scan with filled and outlined structures."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from scipy import ndimage

from stunet.imaging.resample import axis_operator
from stunet.pictures.display import brightness, finite
from stunet.pictures.preview_scene import Scene, View
from stunet.pictures.style import (
    CAPTION_POINTS,
    REFERENCE_COLOUR,
    REFERENCE_POINTS,
    SCREEN_DPI,
    TEXT_COLOUR,
    hide_frame,
    lightened,
)

FILL_OPACITY, OUTLINE_POINTS = 0.34, 1.3

SIDE_POINTS = 10.0
"""Font size of the letters for the patient's sides."""

SMOOTHING_VOXELS = 0.5
"""Standard deviation of smoothing; rounds voxel corners. Straight edges stay in place; single voxels stay visible."""

LEAST_ENLARGEMENT = 2
"""Minimum number of dots per voxel, so that no structure is lost."""

THINNEST_LETTERED_INCHES = 0.5
"""Narrower views have no letters for the patient's sides."""


def draw_plane(axes: Axes, scene: Scene, plane: View, dots_per_mm: float) -> None:
    """Draw image, fills, outlines and letters of one plane."""
    height, width = plane.of(scene.extent)
    image = plane.cut(scene.image, scene.centre)
    rows, columns = (
        max(round(mm * dots_per_mm), LEAST_ENLARGEMENT * voxels)
        for mm, voxels in zip((height, width), image.shape, strict=True)
    )
    dots = rows, columns
    grey = brightness(enlarged(finite(image, scene.window), dots), scene.window)
    picture = np.repeat(grey[..., None], 3, axis=-1)
    for label, mask in _smooth_masks(plane.cut(scene.labels, scene.centre), scene.colours, dots):
        inside = mask >= 0.5
        picture[inside] = (1 - FILL_OPACITY) * picture[inside] + FILL_OPACITY * scene.colours[label]
        _outline(axes, mask, (height, width), lightened(scene.colours[label]), OUTLINE_POINTS)
    if scene.reference is not None:
        for _, mask in _smooth_masks(plane.cut(scene.reference, scene.centre), scene.colours, dots):
            _outline(axes, mask, (height, width), REFERENCE_COLOUR, REFERENCE_POINTS)
    show_picture(axes, picture, plane, (height, width), dots_per_mm)


def show_picture(axes: Axes, picture: np.ndarray, view: View, size: tuple[float, float], dots_per_mm: float) -> None:
    """Show (rows, columns, red green blue) and letters on `axes`, whose units become mm from the upper left corner."""
    height, width = size
    hide_frame(axes)
    axes.set_facecolor("black")
    axes.imshow(picture, extent=(0, width, height, 0), interpolation="antialiased", aspect="auto", zorder=0)
    axes.set(xlim=(0, width), ylim=(height, 0))
    _letter(axes, view, min(height, width) * dots_per_mm / SCREEN_DPI)


def _smooth_masks(
    labels: np.ndarray, colours: Mapping[int, np.ndarray], dots: tuple[int, int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each structure of a plane with its enlarged mask, whose level 0.5 is a smooth outline along voxel edges."""
    for label in np.unique(labels).tolist():
        if label in colours:
            mask = ndimage.gaussian_filter((labels == label).astype(np.float64), SMOOTHING_VOXELS, mode="nearest")
            yield label, enlarged(mask, dots)


def enlarged(plane: np.ndarray, dots: tuple[int, int]) -> np.ndarray:
    """Resample a 2D array to a number of rows and columns over the same extent, by cubic splines."""
    rows, columns = (axis_operator(n_in, n_out, 3) for n_in, n_out in zip(plane.shape, dots, strict=True))
    used_rows, used_columns = _range_of(plane.any(axis=1)), _range_of(plane.any(axis=0))  # the rest is only zeros
    return rows[:, used_rows] @ plane[used_rows, used_columns] @ columns[:, used_columns].T


def _range_of(is_used: Any) -> slice:
    """The range from the first to the last True."""
    places = np.flatnonzero(is_used)
    return slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, 0)


def _outline(axes: Axes, mask: np.ndarray, size: tuple[float, float], colour: object, points: float) -> None:
    """Draw the outline of a mask, which is closed where the mask touches the plane's edge."""
    is_inside = mask >= 0.5
    if not is_inside.any():
        return
    y, x = (
        np.concatenate([[0.0], (np.arange(n) + 0.5) * mm / n, [mm]]) for n, mm in zip(mask.shape, size, strict=True)
    )
    used = (_range_of(is_inside.any(axis=axis)) for axis in (1, 0))
    rows, columns = (slice(places.start, places.stop + 2) for places in used)  # with neighbours, in the padded mask
    ringed = np.pad(mask, 1)[rows, columns]
    axes.contour(x[columns], y[rows], ringed, levels=[0.5], colors=[colour], linewidths=[points], zorder=2)


def _letter(axes: Axes, view: View, inches: float) -> None:
    """Write the view's name, and the patient's sides at its edges if the view is wide enough."""
    halo = [withStroke(linewidth=2.0, foreground="#000000b0")]
    sides = (
        (view.left, (0, 0.5), (5, 0), "left", "center"),
        (view.right, (1, 0.5), (-5, 0), "right", "center"),
        (view.top, (0.5, 1), (0, -5), "center", "top"),
        (view.bottom, (0.5, 0), (0, 5), "center", "bottom"),
    )
    notes = [(*side, SIDE_POINTS, "bold") for side in sides] if inches > THINNEST_LETTERED_INCHES else []
    for text, place, shift, ha, va, points, weight in (
        *notes,
        (view.name, (0, 1), (5, -5), "left", "top", CAPTION_POINTS, "normal"),
    ):
        axes.annotate(
            text, place, xycoords="axes fraction", xytext=shift, textcoords="offset points",
            color=TEXT_COLOUR, size=points, weight=weight, ha=ha, va=va, path_effects=halo,
        )  # fmt: skip
