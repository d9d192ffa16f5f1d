import math

import numpy as np
import pytest
import SimpleITK

from stunet.evaluation.dice import dice_per_label, mean_ignoring_nan
from stunet.imaging.formats.registry import read_labels


def dice_by_simpleitk(prediction, reference, labels):
    """SimpleITK's own overlap measures."""
    measures = SimpleITK.LabelOverlapMeasuresImageFilter()
    measures.Execute(*(SimpleITK.GetImageFromArray(values.astype(np.uint8)) for values in (prediction, reference)))
    return {label: measures.GetDiceCoefficient(label) for label in labels}


@pytest.mark.parametrize("seed", range(5))
def test_random_labels_against_simpleitk(seed):
    random = np.random.default_rng(seed)
    reference = random.integers(0, 5, (7, 8, 9))
    prediction = np.where(random.random(reference.shape) < 0.3, random.integers(0, 5, reference.shape), reference)
    ours = dice_per_label(prediction, reference, [1, 2, 3, 4])
    assert ours == pytest.approx(dice_by_simpleitk(prediction, reference, [1, 2, 3, 4]), abs=1e-12)


def test_real_labels_against_simpleitk(shared_data):
    files = sorted((shared_data / "Dataset004_Hippocampus" / "labelsTr").glob("*.nii.gz"))[:6]
    for first, second in zip(files[::2], files[1::2], strict=True):
        reference, other = (read_labels(file).array[0] for file in (first, second))
        size = [min(n, m) for n, m in zip(reference.shape, other.shape, strict=True)]
        prediction, reference = (array[tuple(slice(n) for n in size)] for array in (other, reference))
        ours = dice_per_label(prediction, reference, [1, 2])
        assert ours == pytest.approx(dice_by_simpleitk(prediction, reference, [1, 2]), abs=1e-12)
        assert 0 < ours[1] < 1


def test_empty_cases():
    nothing, something = np.zeros((2, 2, 2), int), np.ones((2, 2, 2), int)
    assert math.isnan(dice_per_label(nothing, nothing, [1])[1])
    assert dice_per_label(something, nothing, [1])[1] == 0
    assert dice_per_label(nothing, something, [1])[1] == 0
    assert dice_per_label(something, something, [1])[1] == 1


def test_shapes_that_differ():
    with pytest.raises(ValueError, match="shape"):
        dice_per_label(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)), [1])


def test_mean():
    assert mean_ignoring_nan([0.5, math.nan, 1.0]) == 0.75
    assert math.isnan(mean_ignoring_nan([math.nan]))
    assert math.isnan(mean_ignoring_nan([]))
