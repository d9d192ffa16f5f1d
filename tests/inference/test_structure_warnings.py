import numpy as np

from stunet.imaging.volume import Volume
from stunet.inference.statistics import structure_statistics
from stunet.inference.structure_warnings import structure_warnings

NAMES = {0: "background", 1: "kidney_left", 2: "kidney_right", 3: "liver", 4: "spleen"}
LEFT_AT_LOW_X = np.diag([2.0, 2.0, 2.0, 1.0])
"""World x grows with the voxel's x, to the patient's right."""


def warnings_of(labels, affine=LEFT_AT_LOW_X, members=None):
    scan = Volume(np.zeros((1, *labels.shape), dtype=np.float32), affine)
    members = members or {}
    return structure_warnings(labels, structure_statistics(labels, scan, NAMES, members), NAMES, members)


def body():
    """Two kidneys, the left one at low x, and a liver: nothing to say about them."""
    labels = np.zeros((20, 20, 30), dtype=np.uint8)
    labels[5:10, 5:10, 2:7] = 1
    labels[5:10, 5:10, 22:27] = 2
    labels[12:18, 5:15, 5:25] = 3
    return labels


def test_nothing_to_say():
    assert warnings_of(body()) == {}


def test_a_structure_at_the_edge_of_the_scan():
    labels = body()
    labels[18:, 8:10, 8:10] = 3
    assert warnings_of(labels) == {"liver": ("Touches the edge of the scan, so part of it may be missing.",)}


def test_small_pieces_are_counted_with_their_volume():
    labels = body()
    labels[2, 2, 2:5] = 3
    labels[2, 15, 15] = 3
    assert warnings_of(labels) == {"liver": ("Has 2 small separate pieces, 32 mm³ in total.",)}  # 4 voxels of 8 mm³


def test_voxels_that_share_a_corner_are_one_piece():
    labels = body()
    labels[11, 4, 4] = 3
    assert warnings_of(labels) == {}


def test_large_pieces_are_no_surprise():
    labels = body()
    labels[12:18, 5:15, 14:16] = 0
    assert warnings_of(labels) == {}


SWAPPED = {
    "kidney_left": ("Lies to the right of kidney_right. Left and right may be swapped.",),
    "kidney_right": ("Lies to the left of kidney_left. Left and right may be swapped.",),
}


def test_swapped_sides():
    swapped = body()
    swapped[body() == 1], swapped[body() == 2] = 2, 1
    assert warnings_of(swapped) == SWAPPED
    mirrored = np.diag([-2.0, 2.0, 2.0, 1.0])  # the same voxels in a file whose x runs to the left
    assert warnings_of(body(), mirrored) == SWAPPED and warnings_of(swapped, mirrored) == {}


def test_a_structure_of_a_few_voxels():
    labels = np.zeros((6, 6, 6), dtype=np.uint8)
    labels[2:4, 2, 2] = 4
    assert warnings_of(labels) == {"spleen": ("Has only 2 voxels.",)}


def test_a_region_is_one_piece_with_its_members():
    labels = body()
    labels[13:16, 7:10, 9:12] = 4  # painted over the liver, as a tumour
    assert warnings_of(labels, members={3: (3, 4)}) == {}
