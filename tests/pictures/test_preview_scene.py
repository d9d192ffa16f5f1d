import numpy as np
from scipy import ndimage

from stunet.imaging.volume import Volume
from stunet.pictures.preview_scene import centre_of_mass, make_scene


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
