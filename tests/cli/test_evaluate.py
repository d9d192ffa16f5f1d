import json

import nibabel
import numpy as np
import pytest


@pytest.fixture
def pair(tmp_path):
    """Label 1 is half right; label 7 has no name."""
    for name, values in (("prediction", [1, 1, 0, 0, 0, 0, 0, 0]), ("reference", [1, 0, 1, 0, 0, 0, 0, 7])):
        array = np.array(values, np.uint8).reshape(2, 2, 2)
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    return ["-p", tmp_path / "prediction.nii.gz", "-r", tmp_path / "reference.nii.gz"]


@pytest.fixture
def names(tmp_path):
    def write(content):
        (tmp_path / "dataset.json").write_text(json.dumps(content))
        return tmp_path / "dataset.json"

    return write


def test_json(stunet, capsys, pair, tmp_path):
    assert stunet("evaluate", *pair, "--json", "-o", tmp_path / "report.json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["per_label"] == {"1": 0.5, "7": 0.0}
    assert shown == json.loads((tmp_path / "report.json").read_text())


def test_a_table_with_names(stunet, capsys, pair, names):
    labels = {"background": 0, "liver": 1, "cyst": 7, "aorta": 3}
    assert stunet("evaluate", *pair, "--names", names({"labels": labels})) == 0
    shown = capsys.readouterr().out
    assert "DSC, 1 case" in shown and "liver" in shown and "0.5000" in shown and "absent" in shown


def test_a_value_that_the_names_do_not_list(stunet, capsys, pair, names):
    assert stunet("evaluate", *pair, "--names", names({"labels": {"background": 0, "liver": 1}})) == 2
    assert "reference.nii.gz holds the value 7" in capsys.readouterr().err


def test_the_label_map_with_value_200(stunet, capsys, shared_data, names):
    from stunet.labels.ontology import LABELS

    file = shared_data / "bad_inputs" / "int16_label_values_200.nii.gz"
    listed = names({"labels": {name: value for value, name in enumerate(LABELS)}})
    assert stunet("evaluate", "-p", file, "-r", file, "--names", listed) == 2
    said = capsys.readouterr().err
    assert "int16_label_values_200.nii.gz holds the value 200" in said and said.count("\n") == 1


@pytest.mark.parametrize("content", [[], {}, {"labels": {"liver": "one"}}, {"labels": {"both": [1, 2]}}])
def test_names_that_are_none(stunet, capsys, pair, names, content):
    assert stunet("evaluate", *pair, "--names", names(content)) == 2
    assert "dataset.json is no dataset.json with a table of labels" in capsys.readouterr().err


def test_paths_that_cannot_be_right(stunet, capsys, pair, tmp_path):
    assert stunet("evaluate", "-p", tmp_path / "lost.nii.gz", *pair[2:]) == 2
    assert "lost.nii.gz" in capsys.readouterr().err
    assert stunet("evaluate", *pair, "-o", tmp_path / "lost" / "report.json") == 2
    assert "no such folder" in capsys.readouterr().err


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
    assert shown["per_label"] == {"esophagus": 0.0, "trachea": None, "aorta": 1.0}
    assert shown["means"] == {"Table 9": 0.5, "evaluable": 0.5, "released script": 0.5}
    assert shown == json.loads((tmp_path / "report.json").read_text())
    assert stunet("evaluate", *segthor, *options) == 0
    shown = capsys.readouterr()
    assert "DSC, SegThor" in shown.out and "mean, Table 9" in shown.out and "KeyError for the trachea" in shown.err


def test_a_mapping_that_does_not_fit(stunet, capsys, segthor, names):
    assert stunet("evaluate", *segthor[:-1], "segtor") == 2
    assert "no mapping 'segtor'" in capsys.readouterr().err
    assert stunet("evaluate", *segthor, "--numbering", "dataset") == 2
    assert "prediction.nii.gz: the label 7 has no entry" in capsys.readouterr().err
    assert stunet("evaluate", *segthor, "--names", names({"labels": {}})) == 2
    assert "leave --names out" in capsys.readouterr().err
