"""A search gives the labels of the full run near what it saw, with fewer windows."""

import numpy as np
import pytest
import torch

from stunet.batch.prediction_record import scan_record
from stunet.imaging.preprocess import prepare
from stunet.imaging.volume import Volume
from stunet.inference import first_pass
from stunet.inference.first_pass import tiles_of
from stunet.inference.search import OutputMask
from stunet.inference.sliding import Sliding, feature_planes
from stunet.inference.windows import Windows, touches
from tests.inference.nearest_number import BACKGROUND, predictor
from tests.inference.samples import WINDOW, WholeImage, tiny_model

LONG = (60, 40, 40)


def phantom(spacing=1.0, shape=LONG):
    """Class 3 and class 5 at different ends, class 7 in two places, class 9 nowhere."""
    array = np.full((1, *shape), BACKGROUND, dtype=np.float32)
    for label, (z, y, x) in [(3, (6, 5, 6)), (5, (50, 30, 28)), (7, (20, 20, 20)), (7, (44, 8, 30))]:
        array[0, z : z + 4, y : y + 5, x : x + 6] = label
    return Volume(array, np.diag([spacing, spacing, spacing, 1.0]))


@pytest.fixture(autouse=True)
def margin(monkeypatch):
    monkeypatch.setattr(first_pass, "MARGIN_MM", 2.0)


@pytest.mark.parametrize("classes", [(3,), (5,), (7,), (3, 5)], ids=str)
def test_labels_are_those_of_the_full_run(classes):
    scan, quick, full = phantom(), predictor(classes), predictor(classes, whole_scan=True)
    labels = quick.predict(scan).labels
    assert np.array_equal(labels, full.predict(scan).labels)
    assert set(np.unique(labels)) == {0, *classes}
    assert quick.backend.runs < full.backend.runs


@pytest.mark.parametrize("mirror", [False, True], ids=["plain", "mirrored"])
def test_no_window_runs_twice(mirror):
    """The features of the first pass serve the second."""
    quick = predictor((3, 7), mirror=mirror)
    segmentation = quick.predict(phantom())
    found = segmentation.search
    assert 0 < found.known < found.first_pass
    passes = 4 if mirror else 1  # along two axes
    assert quick.backend.runs == passes * (found.first_pass + len(found.windows) - found.known)
    full = predictor((3, 7), mirror=mirror, whole_scan=True).predict(phantom())
    assert np.array_equal(segmentation.labels, full.labels)


def test_without_space_for_features_windows_run_again(monkeypatch):
    monkeypatch.setattr("stunet.inference.known_features.MOST_BYTES", 0)
    quick = predictor((3,))
    segmentation = quick.predict(phantom())
    assert segmentation.search.known == 0
    assert quick.backend.runs == segmentation.search.first_pass + len(segmentation.search.windows)
    assert np.array_equal(segmentation.labels, predictor((3,), whole_scan=True).predict(phantom()).labels)


@pytest.mark.parametrize("spacing", [0.5, 0.7, 1.6])
def test_labels_on_another_grid_are_those_of_the_full_run(spacing):
    """Class 7 alone: on the way from it to the background, interpolated values pass through the other numbers."""
    labels = predictor((7,)).predict(phantom(spacing)).labels
    assert labels.any() and np.array_equal(labels, predictor((7,), whole_scan=True).predict(phantom(spacing)).labels)


def test_features_in_the_boxes_are_those_of_the_full_run():
    torch.manual_seed(0)
    image, network = torch.randn(1, *LONG), predictor((3,)).backend
    box = ((10, 19), (3, 12), (20, 33))
    part = Windows(LONG, WINDOW, boxes=[box])
    here = tuple(slice(*ranges) for ranges in box)
    every = torch.stack(list(feature_planes(WholeImage(image), network, Sliding(WINDOW))))
    some = torch.stack(list(feature_planes(WholeImage(image), network, Sliding(WINDOW), windows=part)))
    assert torch.equal(some[here], every[here]) and not torch.equal(some, every)
    assert not some[40:].any(), "no window runs there"
    assert len(part) + len(part.left_out) == len(Windows(LONG, WINDOW))


def test_progress_counts_both_passes():
    made, told = predictor((3,)), []
    made.predict(phantom(), lambda *numbers: told.append(numbers))
    done = [number for number, _ in told]
    assert done == list(range(1, len(told) + 1)) and told[-1] == (len(told), len(told))
    assert made.backend.runs == len(told)


def test_the_record_says_what_was_left_out():
    segmentation = predictor((3,)).predict(phantom())
    record = scan_record(segmentation)["search"]
    every = Windows(LONG, WINDOW)
    assert record["windows"] + len(record["left_out"]) == len(every)
    assert record["first_pass_windows"] == len(tiles_of(every, LONG, WINDOW))
    assert record["known_windows"] == 2, "those at z = 0 and 8, where class 3 is"
    assert list(segmentation.search.boxes) == [3]
    lows, highs = (extreme(segmentation.search.boxes[3], axis=0) for extreme in (np.min, np.max))
    assert lows[:, 0].tolist() == [4, 3, 4] and highs[:, 1].tolist() == [12, 12, 14]
    assert not any(touches(start, WINDOW, segmentation.search.boxes[3]) for start in record["left_out"])
    assert "search" not in scan_record(predictor((3,), whole_scan=True).predict(phantom()))


def test_what_is_not_seen_is_named():
    segmentation = predictor((3, 9)).predict(phantom())
    assert segmentation.labels.any()
    assert segmentation.warnings == (
        "The first, quick pass did not find: class_9. To be sure, run the whole scan (--whole-scan).",
    )
    nothing = predictor((9,)).predict(phantom())
    assert not nothing.labels.any() and len(nothing.warnings) == 2


def test_what_the_first_pass_misses_is_lost_and_the_whole_scan_finds_it():
    """The first pass has borders between windows at z = 8 and 16, where a blind window sees nothing."""
    array = np.full((1, 64, 40, 40), BACKGROUND, dtype=np.float32)
    array[0, 31:33, 16:24, 16:24] = 4
    scan = Volume(array, np.eye(4))
    assert not predictor((4,), blind=2).predict(scan).labels.any()
    assert predictor((4,), blind=2, whole_scan=True).predict(scan).labels.any()


@pytest.mark.parametrize("shape", [WINDOW, (12, 16, 16), (5, 9, 9)], ids=str)
def test_small_scans_are_not_searched(shape):
    made = predictor((3,))
    array = np.full((1, *shape), 3, dtype=np.float32)
    segmentation = made.predict(Volume(array, np.eye(4)))
    assert segmentation.search is None and (segmentation.labels == 3).all()
    assert made.backend.runs == len(Windows(shape, WINDOW))


def test_probabilities_are_those_of_the_whole_scan(tmp_path):
    made, full = predictor((3,)), predictor((3,), whole_scan=True)
    for each, folder in ((made, "a"), (full, "b")):
        assert each.predict(phantom(), probabilities=tmp_path / folder).search is None
    assert (tmp_path / "a" / "class_3.nii.gz").read_bytes() == (tmp_path / "b" / "class_3.nii.gz").read_bytes()


def test_mask_needs_all_neighbours_in_one_box():
    """60 voxels of 0.5 mm are 30 on the network's grid: voxel 5 lies between 2 and 3, voxel 4 between 1 and 2."""
    grid = prepare(phantom(0.5), tiny_model().plan).record
    assert grid.network_shape == (30, 20, 20)
    mask = OutputMask([((2, 4), (0, 20), (5, 8))], grid)
    assert [number for number in range(60) if mask.of_slice(number).any()] == [5, 6]
    assert np.flatnonzero(mask.of_slice(5).any(axis=0)).tolist() == [11, 12, 13, 14]
    assert mask.of_slice(5).any(axis=1).all() and mask.of_slice(0).shape == (1, 1)
