import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_surface_dice
from scipy import ndimage

from stunet.evaluation.dice import dice
from stunet.evaluation.surface import hausdorff_distance, normalised_surface_distance, surface_distances
from stunet.imaging.formats.registry import read_labels
from tests.evaluation.random_pairs import (
    Pair,
    independent_dice,
    independent_hausdorff,
    independent_nsd,
    random_pair,
)


@pytest.mark.parametrize("start", range(0, 200, 20))
def test_two_hundred_random_pairs_against_an_independent_implementation(start):
    for seed in range(start, start + 20):
        pair = random_pair(seed)
        surfaces = surface_distances(pair.prediction, pair.reference, pair.spacing)
        ours = (
            dice(pair.prediction, pair.reference),
            normalised_surface_distance(surfaces, pair.tolerance_mm),
            hausdorff_distance(surfaces, 95),
        )
        theirs = independent_dice(pair), independent_nsd(pair), independent_hausdorff(pair, 95)
        assert ours == pytest.approx(theirs, abs=1e-6, nan_ok=True), seed


def test_the_random_pairs_hold_every_empty_case_and_many_values():
    pairs = [random_pair(seed) for seed in range(200)]
    empty = {(pair.prediction.any(), pair.reference.any()) for pair in pairs}
    assert empty == {(True, True), (True, False), (False, True), (False, False)}
    values = np.array([independent_nsd(pair) for pair in pairs])
    assert ((values > 0.01) & (values < 0.99)).sum() > 100


@pytest.mark.parametrize("seed", range(1, 10))
def test_nsd_equals_monais(seed):
    pair = random_pair(seed)
    batch = [torch.from_numpy(mask)[None, None].float() for mask in (pair.prediction, pair.reference)]
    theirs = compute_surface_dice(
        *batch, [pair.tolerance_mm], include_background=True, spacing=pair.spacing, use_subvoxels=True
    )
    surfaces = surface_distances(pair.prediction, pair.reference, pair.spacing)
    assert normalised_surface_distance(surfaces, pair.tolerance_mm) == pytest.approx(theirs.item(), abs=1e-5)


def test_empty_cases():
    nothing, something = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    both_empty = surface_distances(nothing, nothing, (1, 1, 1))
    assert math.isnan(normalised_surface_distance(both_empty, 1e9)) and math.isnan(hausdorff_distance(both_empty, 95))
    for prediction, reference in ((nothing, something), (something, nothing)):
        one_empty = surface_distances(prediction, reference, (1, 1, 1))
        assert normalised_surface_distance(one_empty, 1e9) == 0
        assert hausdorff_distance(one_empty, 95) == math.inf
    same = surface_distances(something, something, (1, 1, 1))
    assert normalised_surface_distance(same, 0) == 1 and hausdorff_distance(same, 100) == 0


def test_a_tolerance_that_a_distance_equals_is_not_missed_by_rounding():
    plate = np.zeros((60, 3, 3), bool)
    plate[10:20] = True
    moved = np.roll(plate, 30, axis=0)  # 30 * 0.1 mm is 3.0000000000000004 mm in binary numbers
    surfaces = surface_distances(plate, moved, (0.1, 50.0, 50.0))
    assert normalised_surface_distance(surfaces, 3.0) == 1
    assert normalised_surface_distance(surfaces, 2.9) < 1


def test_the_hausdorff_distance_of_a_ball_and_a_larger_one():
    places = np.indices((41, 41, 41)) - 20.0
    radius = np.sqrt((places**2).sum(axis=0)) * 1.5
    surfaces = surface_distances(radius <= 12, radius <= 21, (1.5, 1.5, 1.5))
    assert hausdorff_distance(surfaces, 100) == pytest.approx(9, abs=1.5)
    assert hausdorff_distance(surfaces, 95) <= hausdorff_distance(surfaces, 100)
    assert normalised_surface_distance(surfaces, 7) == 0 and normalised_surface_distance(surfaces, 11) == 1


def test_real_labels(shared_data):
    """Two segmentations of the same scan by different networks."""
    folder = shared_data / "totalseg_example"
    prediction, reference = (
        read_labels(folder / f"ct_crop_labels_stunet104{suffix}.nii.gz") for suffix in ("_fast", "")
    )
    for label in (1, 40, 77):
        masks = [ndimage.binary_dilation(v.array[0] == label) for v in (prediction, reference)]
        pair = Pair(*masks, reference.spacing, 2.5)
        surfaces = surface_distances(*masks, reference.spacing)
        assert normalised_surface_distance(surfaces, 2.5) == pytest.approx(independent_nsd(pair), abs=1e-6)
        assert hausdorff_distance(surfaces, 95) == pytest.approx(independent_hausdorff(pair, 95), abs=1e-6)


def test_shapes_that_differ():
    with pytest.raises(ValueError, match="shape"):
        surface_distances(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 3), bool), (1, 1, 1))
