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


def test_the_bundled_model_knows_crops(shared_data):
    model = load_model("hippocampus")
    for path in sorted((shared_data / "Dataset004_Hippocampus" / "imagesTr").glob("*.nii.gz")):
        assert doubts(read_volume(path), model) == ()
    head = Volume(np.ones((1, 180, 220, 180), np.int16), np.eye(4))
    (said,) = doubts(head, model)
    assert "covers 180 x 220 x 180 mm" in said and "crops of 35 x 50 x 36 mm" in said
