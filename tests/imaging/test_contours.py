"""Outlines of masks, drawn again by matplotlib."""

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from scipy import ndimage

from stunet.imaging.formats.contours import polygons


def drawn(outlines: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The voxel centres inside of polygons."""
    y, x = np.indices(shape)
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    inside = [Polygon(points).contains_points(centres).reshape(shape) for points in outlines]
    return np.any(inside, axis=0) if inside else np.zeros(shape, dtype=bool)


def blobs(seed: int, smooth: float) -> np.ndarray:
    """Random parts with holes, islands in the holes, single voxels and voxels that touch at corners."""
    noise = np.random.default_rng(seed).normal(size=(40, 50))
    smoothed: np.ndarray = ndimage.gaussian_filter(noise, smooth)
    return smoothed > 0


@pytest.mark.parametrize("smooth", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_voxels_inside_are_those_of_the_mask(seed: int, smooth: float) -> None:
    mask = blobs(seed, smooth)
    np.testing.assert_array_equal(drawn(polygons(mask), mask.shape), mask)


def test_a_ring_is_one_polygon_without_its_hole() -> None:
    mask = np.ones((9, 9), dtype=bool)
    mask[3:5, 3:5] = mask[6, 6] = False
    (outline,) = polygons(mask)
    x, y = outline.T
    area = 0.5 * abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
    # a corner of the outline cuts an eighth of a voxel off, and so does each corner of a hole
    assert area == pytest.approx(81 - 4 * 0.125 - (4 - 4 * 0.125) - 0.5)
    np.testing.assert_array_equal(drawn([outline], mask.shape), mask)


def test_only_corners_are_kept() -> None:
    mask = np.zeros((30, 30), dtype=bool)
    mask[5:25, 5:25] = True
    (outline,) = polygons(mask)
    assert len(outline) == 8
    assert outline.min() == 4.5 and outline.max() == 24.5


def test_nothing_has_no_outline() -> None:
    assert polygons(np.zeros((4, 4), dtype=bool)) == []
