"""Probabilities on disk against the softmax of fully interpolated logits."""

from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from scipy import special

from stunet.errors import UserError
from stunet.imaging.affine import AxisMoves
from stunet.imaging.preprocess import GridRecord
from stunet.imaging.volume import Volume
from stunet.inference import head as head_module
from stunet.inference import probabilities as probabilities_module
from stunet.inference.head import LinearHead
from stunet.inference.labelling import output_slices
from stunet.inference.probabilities import probability_maps
from tests.inference.test_labelling import logits_of, random_case, zoomed

NAMES = {0: "background", 2: "liver", 5: "left kidney"}
NETWORK, CROPPED, SCAN = (5, 8, 6), (9, 12, 7), (9, 7, 14)
"""The scan's rows are the network's columns, and two of its columns are cropped away."""

RECORD = GridRecord(
    scan_shape=SCAN,
    reorientation=AxisMoves(),
    transpose_forward=(0, 2, 1),
    crop_box=((0, 9), (2, 14), (0, 7)),
    cropped_spacing=(1.0, 1.0, 1.0),
    network_shape=NETWORK,
    image_separate_axis=None,
    logits_orders=(1, 1, 1),
)


def scan(dtype=np.int16):
    return Volume(np.zeros((1, *SCAN), dtype=dtype), np.diag([2.0, 1.0, 1.5, 1.0]))


def write_maps(folder, features, weight, bias):
    slices = output_slices(features.movedim(0, -1), LinearHead(weight, bias), NETWORK, CROPPED, (1, 1, 1))
    with probability_maps(folder, NAMES, scan(), RECORD) as maps:
        for number, output_slice in enumerate(slices):
            maps.write(number, output_slice)


def test_they_are_the_softmax_of_interpolated_logits(tmp_path, monkeypatch):
    features, weight, bias = random_case(NETWORK, 4, 7, smooth=True)
    monkeypatch.setattr(head_module, "CHUNK_BYTES", 7 * 4 * 30)
    write_maps(tmp_path / "maps", features, weight, bias)
    expected_KZYX = special.softmax(zoomed(logits_of(features, weight, bias), CROPPED), axis=0)
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["left_kidney.nii.gz", "liver.nii.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["maps"]
    for label, name in ((2, "liver"), (5, "left_kidney")):
        image = nibabel.load(tmp_path / "maps" / f"{name}.nii.gz")
        np.testing.assert_allclose(image.affine, scan().affine)
        found_ZYX = np.asarray(image.dataobj).T
        assert not found_ZYX[:, :, :2].any()
        np.testing.assert_allclose(found_ZYX[:, :, 2:].swapaxes(1, 2), expected_KZYX[label], atol=1e-5)
        other = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "maps" / f"{name}.nii.gz")))
        np.testing.assert_allclose(other, found_ZYX, atol=1e-6)


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="half way"), probability_maps(tmp_path / "maps", NAMES, scan(), RECORD):
        raise RuntimeError("half way")
    assert not list(tmp_path.iterdir())


def test_too_little_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(probabilities_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    sentence = r"maps: the probabilities need .* GB.*--classes"
    with pytest.raises(UserError, match=sentence), probability_maps(tmp_path / "maps", NAMES, scan(), RECORD):
        pass
    assert not list(tmp_path.iterdir())


def test_all_of_them_together_are_one(tmp_path):
    features, weight, bias = random_case(NETWORK, 4, 7, smooth=False)
    (output_slice, *_) = output_slices(features.movedim(0, -1), LinearHead(weight, bias), NETWORK, CROPPED, (1, 1, 1))
    total = probabilities_module.slice_probabilities(output_slice, list(range(7))).sum(dim=1)
    torch.testing.assert_close(total, torch.ones(CROPPED[1] * CROPPED[2]))
