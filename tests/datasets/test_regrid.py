import numpy as np
import pytest
from scipy import ndimage

from stunet.datasets.regrid import at_spacing, has_spacing
from stunet.imaging.affine import voxel_to_world
from stunet.imaging.volume import Volume
from tests.phantoms import rotated_affine, smooth_scan

SPACING_XYZ = (0.8, 0.9, 2.5)
SHAPE = (12, 30, 20)


@pytest.fixture
def volume():
    return Volume(smooth_scan(SHAPE)[None], rotated_affine(SPACING_XYZ))


def test_the_extent_stays(volume):
    """The corners of the outermost voxels are where they were, in the room."""
    moved, _ = at_spacing(volume, np.zeros(SHAPE, np.uint8), (1.5, 1.5, 1.5))
    for corner in (np.zeros(3), np.ones(3)):
        before, after = (voxel_to_world(v.affine, corner * np.array(v.shape)[::-1] - 0.5) for v in (volume, moved))
        np.testing.assert_allclose(before, after, atol=1e-9)
    assert moved.shape == (20, 18, 11)
    np.testing.assert_allclose(moved.spacing, (1.5, 1.5, 0.8 * 20 / 11), rtol=1e-12)


def test_values_are_scipys(volume):
    labels = (smooth_scan(SHAPE, seed=1) > 0).astype(np.uint8)
    moved, moved_labels = at_spacing(volume, labels, (1.5, 1.5, 1.5))
    factors = [new / old for new, old in zip(moved.shape, SHAPE, strict=True)]
    image = volume.array[0].astype(np.float64)
    expected = ndimage.zoom(image, factors, order=3, mode="nearest", grid_mode=True).clip(image.min(), image.max())
    assert moved.array.dtype == np.int16
    assert np.abs(moved.array[0] - expected).max() <= 0.51
    nearest = ndimage.zoom(labels, factors, order=0, mode="nearest", grid_mode=True)
    np.testing.assert_array_equal(moved_labels, nearest)


def test_a_spacing_that_is_there_up_to_rounding(volume):
    assert has_spacing(volume, (2.5004, 0.9, 0.8)) and not has_spacing(volume, (1.5, 1.5, 1.5))
