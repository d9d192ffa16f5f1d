import numpy as np
import pytest
from scipy import ndimage

from stunet.imaging.preview_scene import (
    SOFT_TISSUE_HU,
    brightness,
    centre_of_mass,
    finite,
    intensity_window,
    make_scene,
)
from stunet.imaging.volume import Volume


def test_windows():
    random = np.random.default_rng(0)
    ct = np.concatenate([random.normal(-1000, 20, 4000), random.normal(50, 300, 4000)]).reshape(20, 20, 20)
    assert intensity_window(ct.astype(np.int16)) == SOFT_TISSUE_HU
    mr = random.gamma(2, 100, (20, 20, 20)).astype(np.float32)
    assert intensity_window(mr) == pytest.approx(np.percentile(mr, (0.5, 99.5)), rel=1e-4)
    assert intensity_window(np.full((4, 4, 4), 7)) == (7, 8)


def test_centre_of_mass():
    labels = np.zeros((20, 24, 28), dtype=np.uint8)
    labels[14:18, 17:22, 20:26] = 1
    centre = ndimage.center_of_mass(labels)
    assert np.abs(np.subtract(centre_of_mass(labels), centre)).max() <= 0.5
    assert centre_of_mass(np.zeros((5, 6, 7), dtype=np.uint8)) == (2, 3, 3)


def test_the_planes_meet_in_the_reference_where_nothing_was_predicted():
    volume = Volume(np.zeros((1, 5, 6, 7), np.int16), np.diag([-1.0, -1.0, 1.0, 1.0]))
    nothing, true = np.zeros((5, 6, 7), np.uint8), np.zeros((5, 6, 7), np.uint8)
    true[4, 0, 1] = 2
    names = {1: "liver", 2: "spleen"}
    missed = make_scene(volume, nothing, true, names)
    found = make_scene(volume, true, nothing, names)
    assert missed.centre == found.centre != make_scene(volume, nothing, None, names).centre


def test_brightness_of_all_numbers():
    image = np.array([-np.inf, -5.0, 0.0, 2.5, 10.0, 99.0, np.inf, np.nan], dtype=np.float32)
    assert brightness(finite(image, (0.0, 10.0)), (0.0, 10.0)).tolist() == [0, 0, 0, 0.25, 1, 1, 1, 0]
