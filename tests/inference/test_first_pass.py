"""The first pass follows a structure from tile to tile, and looks everywhere for what it has not seen."""

from itertools import product

import numpy as np
import pytest
import torch

from stunet.errors import UserError
from stunet.imaging.volume import Volume
from stunet.inference import first_pass
from stunet.inference.first_pass import tiles_of
from stunet.inference.windows import Windows
from tests.inference.nearest_number import BACKGROUND, predictor
from tests.inference.samples import WINDOW

SHAPE = (64, 80, 80)
"""Tiles of 8 x 16 x 16 voxels: 8 along Z, 5 along Y and 5 along X. The middle line is in one of 25 columns."""


@pytest.fixture(autouse=True)
def small_scale(monkeypatch):
    monkeypatch.setattr(first_pass, "MARGIN_MM", 2.0)
    monkeypatch.setattr(first_pass, "LEAST_MM3", 20.0)
    monkeypatch.setattr("stunet.inference.predictor.LABELS", ("class_3", "class_9"))


def with_class_3(*places):
    """A scan with class 3 in these parts (Z, Y, X)."""
    array = np.full((1, *SHAPE), BACKGROUND, dtype=np.float32)
    for place in places:
        array[0][place] = 3
    return Volume(array, np.eye(4))


def both(scan, classes=(3,)):
    """The segmentation with a search, and the labels of the whole scan."""
    return predictor(classes).predict(scan), predictor(classes, whole_scan=True).predict(scan).labels


def test_what_is_in_the_middle_needs_its_own_tiles_only():
    found, whole = both(with_class_3(np.s_[18:22, 36:44, 36:44]))
    assert np.array_equal(found.labels, whole) and whole.any()
    assert found.search.first_pass == 8, "one column"


def test_a_structure_is_followed_to_the_corner():
    """From the middle along Y to the border, then along X, then along Z."""
    bent = np.s_[18:22, 38:78, 38:42], np.s_[18:22, 74:78, 38:78], np.s_[18:60, 74:78, 74:78]
    found, whole = both(with_class_3(*bent))
    assert np.array_equal(found.labels, whole) and whole[59, 75, 75] == 3
    assert found.search.first_pass < len(tiles_of(Windows(SHAPE, WINDOW), SHAPE, WINDOW)) / 3


@pytest.mark.parametrize("speck", [(), (np.s_[18:20, 38:40, 38:40],)], ids=["nothing", "a speck"])
def test_where_little_is_in_the_middle_all_tiles_run(speck):
    found, whole = both(with_class_3(np.s_[40:46, 2:8, 70:78], *speck))
    assert np.array_equal(found.labels, whole) and whole[42, 4, 72] == 3
    assert found.search.first_pass == len(tiles_of(Windows(SHAPE, WINDOW), SHAPE, WINDOW))


def test_all_tiles_run_if_one_of_two_structures_is_missing():
    found, whole = both(with_class_3(np.s_[18:22, 36:44, 36:44]), classes=(3, 9))
    assert np.array_equal(found.labels, whole)
    assert found.search.first_pass == len(tiles_of(Windows(SHAPE, WINDOW), SHAPE, WINDOW))


def test_a_second_part_far_from_the_middle_is_lost():
    """What the documentation says of --classes; --whole-scan finds it."""
    found, whole = both(with_class_3(np.s_[18:22, 36:44, 36:44], np.s_[40:46, 2:8, 70:78]))
    assert whole[42, 4, 72] == 3 and found.labels[42, 4, 72] == 0
    assert np.array_equal(found.labels[:30], whole[:30])


def test_what_is_no_organ_may_be_in_several_pieces(monkeypatch):
    """Lesions, for instance: one in the middle says nothing about others."""
    monkeypatch.setattr("stunet.inference.predictor.LABELS", ("liver",))
    found, whole = both(with_class_3(np.s_[18:22, 36:44, 36:44], np.s_[40:46, 2:8, 70:78]))
    assert np.array_equal(found.labels, whole) and whole[42, 4, 72] == 3
    assert found.search.first_pass == len(tiles_of(Windows(SHAPE, WINDOW), SHAPE, WINDOW))


@pytest.mark.parametrize("shape", [SHAPE, (8, 16, 16), (9, 17, 50), (5, 30, 7), (61, 33, 47)], ids=str)
def test_each_voxel_is_in_one_cell_within_its_window(shape):
    windows = Windows(shape, WINDOW)
    count = np.zeros(shape, int)
    for tile in tiles_of(windows, shape, WINDOW):
        count[tuple(slice(*ranges) for ranges in tile.cell)] += 1
        for (low, high), start, size, (before, _) in zip(tile.cell, tile.start, WINDOW, windows.padding, strict=True):
            assert start - before <= low < high <= start - before + size
    assert (count == 1).all()


def test_middles_shared_by_two_tiles_run_both():
    """Along Y and X, 32 voxels are two tiles."""
    array = np.full((1, 64, 32, 32), BACKGROUND, dtype=np.float32)
    for y, x in product((4, 24), (4, 24)):
        array[0, 20:24, y : y + 4, x : x + 4] = 3
    found = predictor((3,)).predict(Volume(array, np.eye(4)))
    assert (found.labels == 3).sum() == 4 * 4 * 4 * 4


def test_a_value_that_is_not_finite_names_its_window():
    made, scan = predictor((3,)), with_class_3(np.s_[18:22, 36:44, 36:44])
    run = made.backend.run
    made.backend.run = lambda windows: torch.where((windows > 7)[:, 0, ..., None], torch.nan, run(windows))
    scan.array[0, 33, 40, 40] = 8
    with pytest.raises(UserError, match=r"window at voxel \(32, 32, 32\)"):
        made.predict(scan)
