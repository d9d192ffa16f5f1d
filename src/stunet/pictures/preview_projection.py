"""Draw the projection of a preview: all structures of the scan, seen from the front, over a faint radiograph.

It also shows structures outside the three planes. Each structure is a coloured, transparent pane with the shape of its
silhouette, shaded by the slope of its front surface with light from above, and darker the further back it is. Panes are
painted from back to front. Panes that would hide more are more transparent, and all panes are more opaque where the
surface turns away, so that shapes stay visible through each other.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from scipy import ndimage

from stunet.pictures.display import brightness, finite
from stunet.pictures.preview_planes import SMOOTHING_VOXELS, enlarged, show_picture
from stunet.pictures.preview_scene import PROJECTION, Scene
from stunet.pictures.style import lightened

RADIOGRAPH_BRIGHTNESS = 0.42
"""Grey level of the radiograph's brightest pixels; the structures are brighter."""

RADIOGRAPH_PERCENTILE = 99.5
"""Percentile of the radiograph that has this brightness."""

LEAST_OPACITY, MOST_OPACITY = 0.15, 0.92
"""Opacity of a structure that hides many others, and of one that hides none."""

STEEP_OPACITY, STEEPNESS = 0.9, 1.5
"""Opacity where the surface is seen edge-on, and the power of (1 - cosine) with which it increases."""

RIM_OPACITY, RIM_DOTS = 0.7, 1.0
"""Opacity of the light line along a silhouette's edge, and the standard deviation that gives its width."""

LIGHT = np.array([-0.55, -0.3, -1.0])
"""Direction of the light in the picture's (rows, columns, depth): from the front, above, slightly to the right."""

AMBIENT = 0.62
"""Brightness of surfaces that face away from the light."""

FOG = 0.1
"""How much darker the back of the scan is than the front."""

RELIEF_VOXELS = 1.2
"""Standard deviation of the smoothing of front surfaces before shading, in units of the longest voxel side."""

EDGE_SLOPE = 1.25
"""A smoothed silhouette falls by 0.8 per voxel at its edge; times this, it falls by 1, so the edge is one dot wide."""

MARGIN_VOXELS = 3
"""Margin around every pane, for smooth edges."""


@dataclass(frozen=True, eq=False)
class Pane:
    """One structure seen from the front. Arrays have one value per voxel of its box, plus a margin.

    Attributes:
        corner: first row and column of its arrays, on the scan's grid with the same margin.
        colour: red, green, blue in 0..1.
        depth: mean depth of the front surface in mm, for the painting order.
        silhouette: (rows, columns), 1.0 where a ray meets the structure, otherwise 0.0.
        facing: (rows, columns), 1.0 where the surface faces the viewer, towards 0.0 where it turns away; also valid
            slightly outside the silhouette.
        shade: brightness (rows, columns), also valid slightly outside the silhouette.
    """

    corner: tuple[int, int]
    colour: np.ndarray
    depth: float
    silhouette: np.ndarray
    facing: np.ndarray
    shade: np.ndarray

    def place(self, zoom: tuple[int, int] = (1, 1)) -> tuple[slice, slice]:
        """Its position in a picture with `zoom` dots per voxel and the margin."""
        rows, columns = (
            slice(start * factor, (start + size) * factor)
            for start, size, factor in zip(self.corner, self.silhouette.shape, zoom, strict=True)
        )
        return rows, columns


def draw_projection(axes: Axes, scene: Scene, dots_per_mm: float) -> None:
    """Draw the projection and its letters; the axes' units become mm from the upper left corner."""
    size = PROJECTION.of(scene.extent)
    show_picture(axes, project(scene, dots_per_mm), PROJECTION, size, dots_per_mm)


def project(scene: Scene, dots_per_mm: float) -> np.ndarray:
    """Paint the whole scan as seen from the front.

    Args:
        scene: Scene in display orientation.
        dots_per_mm: Minimum dots per mm; each voxel has an integer number of dots.

    Returns:
        (rows, columns, red green blue) in 0..1.
    """
    radiograph = _radiograph(scene)
    rows, columns = radiograph.shape
    height, width = PROJECTION.of(scene.extent)
    zoom = tuple(max(1, math.ceil(mm * dots_per_mm / n)) for mm, n in ((height, rows), (width, columns)))
    margins = [(MARGIN_VOXELS * factor, MARGIN_VOXELS * factor) for factor in zoom]
    grey = np.clip(enlarged(radiograph, (rows * zoom[0], columns * zoom[1])), 0, 1)
    picture = np.repeat(np.pad(grey, margins)[..., None], 3, axis=-1)
    is_hidden = np.zeros((rows + 2 * MARGIN_VOXELS, columns + 2 * MARGIN_VOXELS))
    for pane in sorted(_panes(scene), key=lambda pane: -pane.depth):
        hides = float((is_hidden[pane.place()] * pane.silhouette).sum())
        is_hidden[pane.place()] += pane.silhouette / pane.silhouette.sum()
        _paint(picture[pane.place(zoom)], pane, LEAST_OPACITY + (MOST_OPACITY - LEAST_OPACITY) / (1 + hides))
    (top, bottom), (left, right) = margins
    return picture[top:-bottom, left:-right]


def _radiograph(scene: Scene) -> np.ndarray:
    """Mean brightness along each ray, (Z, X), scaled to a faint picture; computed slice by slice to save memory."""
    means = np.array(
        [brightness(finite(image_YX, scene.window), scene.window).mean(axis=0) for image_YX in scene.image]
    )
    brightest = np.percentile(means, RADIOGRAPH_PERCENTILE)
    return np.clip(means / brightest, 0, 1) * RADIOGRAPH_BRIGHTNESS if brightest > 0 else means


def _panes(scene: Scene) -> Iterator[Pane]:
    """The panes of all structures that are present."""
    z, y, x = (mm / voxels for mm, voxels in zip(scene.extent, scene.labels.shape, strict=True))
    for label, box in enumerate(ndimage.find_objects(scene.labels), start=1):
        if box is not None and label in scene.colours:
            is_structure = scene.labels[box] == label
            yield _pane(is_structure, box, (z, y, x), scene.extent[1], scene.colours[label])


def _pane(
    is_structure_ZYX: np.ndarray,
    box: tuple[slice, slice, slice],
    spacing: tuple[float, float, float],
    scan_depth: float,
    colour: np.ndarray,
) -> Pane:
    """Compute the pane of one structure in its box."""
    rows, behind, columns = box
    silhouette = np.pad(is_structure_ZYX.any(axis=1).astype(np.float64), MARGIN_VOXELS)
    depth = np.pad((is_structure_ZYX.argmax(axis=1) + behind.start) * spacing[1], MARGIN_VOXELS)
    blur = [RELIEF_VOXELS * max(spacing) / spacing[axis] for axis in (0, 2)]
    surface = _spread(depth, silhouette, blur)
    normal = _normal(surface, (spacing[0], spacing[2]))
    lit = np.clip(normal @ LIGHT / np.linalg.norm(LIGHT), 0, 1)  # Lambert's law
    return Pane(
        corner=(rows.start, columns.start),
        colour=colour,
        depth=float((depth * silhouette).sum() / silhouette.sum()),
        silhouette=silhouette,
        facing=-normal[..., 2],
        shade=(AMBIENT + (1 - AMBIENT) * lit) * (1 - FOG * surface / scan_depth),
    )


def _spread(values: np.ndarray, silhouette: np.ndarray, blur: list[float]) -> np.ndarray:
    """Smooth values inside a silhouette and extrapolate them outside, by normalised convolution."""
    known = ndimage.gaussian_filter(silhouette, blur, mode="constant")
    return ndimage.gaussian_filter(values * silhouette, blur, mode="constant") / np.maximum(known, 1e-12)


def _normal(depth: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Unit normals (rows, columns, depth) of the surface at `depth` (rows, columns) mm, towards the front."""
    down_rows, down_columns = np.gradient(depth, *spacing)
    normal = np.stack([down_rows, down_columns, np.full_like(depth, -1.0)], axis=-1)
    return normal / np.linalg.norm(normal, axis=-1, keepdims=True)


def _paint(place: np.ndarray, pane: Pane, opacity: float) -> None:
    """Blend a pane into its part (rows, columns, red green blue) of the picture, `opacity` where it faces us."""
    dots = (place.shape[0], place.shape[1])
    level = enlarged(ndimage.gaussian_filter(pane.silhouette, SMOOTHING_VOXELS, mode="constant"), dots)
    dots_per_voxel = min(large // small for large, small in zip(dots, pane.silhouette.shape, strict=True))
    is_covered = np.clip(0.5 + (level - 0.5) * EDGE_SLOPE * dots_per_voxel, 0, 1)
    steepness = np.clip(1 - enlarged(pane.facing, dots), 0, 1) ** STEEPNESS
    shaded = np.clip(enlarged(pane.shade, dots), 0, 1)[..., None] * pane.colour
    _lay(place, shaded, is_covered * (opacity + (STEEP_OPACITY - opacity) * steepness))
    rim = np.clip(2.5 * (is_covered - ndimage.gaussian_filter(is_covered, RIM_DOTS)), 0, 1)
    _lay(place, lightened(pane.colour), RIM_OPACITY * rim)


def _lay(place: np.ndarray, colour: np.ndarray, opacity: np.ndarray) -> None:
    place += opacity[..., None] * (colour - place)
