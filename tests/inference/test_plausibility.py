"""There is a warning only if scan and model clearly do not match: real CT, MR and PET."""

from dataclasses import replace

import numpy as np
import pytest

from stunet.imaging.formats.registry import read_volume
from stunet.imaging.volume import Volume
from stunet.inference.plausibility import doubts
from stunet.weights.model import load_model
from tests.inference.samples import tiny_model

CT = "totalseg_example/ct.nii.gz"
CT_CROP = "totalseg_example/ct_crop.nii.gz"
MR = "Dataset004_Hippocampus/imagesTr/hippocampus_001_0000.nii.gz"


def model_for(channel):
    model = tiny_model()
    return replace(model, card=replace(model.card, channels=(channel,)))


@pytest.mark.parametrize(
    ("file", "channel"), [(CT, "CT"), (CT_CROP, "CT"), (MR, "MRI"), (MR, "PET"), (CT, "channel_0")]
)
def test_what_may_be_right(shared_data, file, channel):
    assert doubts(read_volume(shared_data / file), model_for(channel)) == ()


@pytest.mark.parametrize(
    ("file", "channel", "sentence"),
    [(CT, "MRI", "like a CT"), (CT_CROP, "T1", "like a CT"), (MR, "CT", "not a CT in Hounsfield units")],
)
def test_what_is_plainly_wrong(shared_data, file, channel, sentence):
    (said,) = doubts(read_volume(shared_data / file), model_for(channel))
    assert sentence in said and file.rpartition("/")[2] in said


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda hu: (hu - hu.mean()) / hu.std(), "so it was normalised and is not in Hounsfield units"),
        (lambda hu: (np.maximum(hu, -1024) + 1024) / 4095, "no negative values"),
        (lambda hu: np.clip(hu, -160, 240), "was clipped at -160"),
    ],
    ids=["z-scores", "0 to 1", "a window of soft tissue"],
)
def test_a_ct_that_is_no_longer_in_hounsfield_units(shared_data, change, sentence):
    scan = read_volume(shared_data / CT)
    changed = change(scan.array.astype(np.float32)).astype(np.float32)
    (said,) = doubts(replace(scan, array=changed), model_for("CT"))
    assert sentence in said and "ct.nii.gz" in said


def test_a_ct_without_air_may_be_right():
    """A crop of an organ: values from fat to contrast medium, none of them frequent."""
    values = np.random.default_rng(0).normal(60, 40, (1, 30, 30, 30)).astype(np.float32)
    assert doubts(Volume(values, np.eye(4)), model_for("CT")) == ()


def test_the_bundled_model_knows_crops(shared_data):
    model = load_model("hippocampus")
    for path in sorted((shared_data / "Dataset004_Hippocampus" / "imagesTr").glob("*.nii.gz")):
        assert doubts(read_volume(path), model) == ()
    head = Volume(np.ones((1, 180, 220, 180), np.int16), np.eye(4))
    (said,) = doubts(head, model)
    assert "covers 180 x 220 x 180 mm" in said and "crops of 35 x 50 x 36 mm" in said
