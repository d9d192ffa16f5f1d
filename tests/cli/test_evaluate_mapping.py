"""`stunet evaluate --mapping`: predictions in one numbering, references in another."""

import json

import nibabel
import numpy as np
import pytest


@pytest.fixture
def segthor(tmp_path):
    """Esophagus and aorta in SegTHOR's own labels, and what finds the aorta, in TotalSegmentator's numbering."""
    for name, values in (("reference", [1, 1, 4, 4, 0, 0, 2, 2]), ("prediction", [0, 0, 7, 7, 0, 0, 0, 0])):
        array = np.array(values, np.uint8).reshape(2, 2, 2)
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    return ["-p", tmp_path / "prediction.nii.gz", "-r", tmp_path / "reference.nii.gz", "--mapping", "segthor"]


def test_another_dataset(stunet, capsys, segthor, tmp_path):
    options = ["--numbering", "totalsegmentator-v1"]
    assert stunet("evaluate", *segthor, *options, "--json", "-o", tmp_path / "report.json") == 0
    shown = json.loads(capsys.readouterr().out)
    per_label = shown["metrics"]["dsc"]["per_label"]
    assert {name: mean["value"] for name, mean in per_label.items()} == {"esophagus": 0, "trachea": None, "aorta": 1}
    assert shown["dataset"]["mapping"] == "segthor"
    assert shown["dataset"]["means"] == {"Table 9": 0.5, "evaluable": 0.5, "released script": 0.5}
    assert shown == json.loads((tmp_path / "report.json").read_text())
    assert stunet("evaluate", *segthor, *options) == 0
    shown = capsys.readouterr()
    assert "DSC on SegThor" in shown.out and "released script" in shown.out
    assert "KeyError for the trachea" in shown.err


def test_remarks_and_countings_in_a_document(stunet, segthor, tmp_path):
    document = tmp_path / "report.md"
    assert stunet("evaluate", *segthor, "--numbering", "totalsegmentator-v1", "-o", document) == 0
    written = document.read_text()
    assert "| released script | 0.5000 |" in written and "KeyError for the trachea" in written


def test_a_mapping_that_does_not_fit(stunet, capsys, segthor, tmp_path):
    assert stunet("evaluate", *segthor[:-1], "segtor") == 2
    assert "no mapping 'segtor'" in capsys.readouterr().err
    assert stunet("evaluate", *segthor, "--numbering", "dataset") == 2
    assert "prediction.nii.gz: the label 7 is not in the mapping" in capsys.readouterr().err
    for options in (["--names", tmp_path / "dataset.json"], ["--metrics", "nsd"]):
        assert stunet("evaluate", *segthor, *options) == 2
        assert "Leave --names out, and keep dsc in --metrics" in capsys.readouterr().err
