"""The picture of a validation patch, read back as pixels."""

import numpy as np
import pytest
from matplotlib.image import imread

from stunet.pictures.training_patch import draw_patch


@pytest.fixture
def patch():
    """Noise with a block of label 1 in slices 3 to 6, largest in slice 5."""
    image = np.random.default_rng(0).normal(size=(8, 20, 20)).astype(np.float32)
    labels = np.zeros((8, 20, 20), np.int16)
    labels[3:7, 5:10, 5:10] = 1
    labels[5, 5:15, 5:15] = 1
    return image, labels


def test_where_the_two_agree_nothing_differs(tmp_path, patch):
    image, labels = patch
    draw_patch(tmp_path / "right.png", "case", image, labels, labels)
    draw_patch(tmp_path / "wrong.png", "case", image, labels, np.zeros_like(labels))
    draw_patch(tmp_path / "elsewhere.png", "case", image, labels, np.where(np.arange(8) == 5, labels.T, 0).T)
    right, wrong, elsewhere = (imread(tmp_path / f"{name}.png") for name in ("right", "wrong", "elsewhere"))
    assert right.shape == wrong.shape and right.shape[1] > 1000
    columns = np.abs(right - wrong).max(axis=(0, 2)) > 0.1
    quarter = right.shape[1] // 4
    shown = [columns[n * quarter : (n + 1) * quarter].any() for n in range(4)]
    assert shown == [False, False, True, True]  # image and reference are the same, prediction and difference are not
    assert np.array_equal(right, elsewhere)  # only the fullest slice, 5, is shown


def test_a_patch_without_contrast_or_labels(tmp_path):
    empty = np.zeros((4, 6, 6))
    draw_patch(tmp_path / "empty.png", "case", empty, empty.astype(int), empty.astype(int))
    assert imread(tmp_path / "empty.png").ndim == 3


def test_a_name_that_is_no_text_is_drawn(tmp_path):
    empty = np.zeros((4, 6, 6))
    draw_patch(tmp_path / "odd.png", "c\udce4se $x_$", empty, empty.astype(int), empty.astype(int))
    assert imread(tmp_path / "odd.png").ndim == 3
