"""Predictions in four numberings scored on a dataset's own labels."""

import math

import nibabel
import numpy as np
import pytest

from stunet.errors import UserError
from stunet.evaluation.mapped import evaluate_mapped
from stunet.labels.mapping import NUMBERINGS, load_mapping
from stunet.labels.ontology import LABELS


def write(path, labels):
    """Four labels in a row, each of two voxels."""
    path.parent.mkdir(exist_ok=True)
    array = np.repeat(np.array(labels, np.uint8), 2).reshape(2, 2, -1)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])), path)
    return path


@pytest.fixture
def amos(tmp_path):
    """Liver, both kidneys and prostate/uterus, in AMOS' own labels."""
    return write(tmp_path / "reference.nii.gz", [6, 2, 3, 15])


@pytest.mark.parametrize("numbering", NUMBERINGS)
def test_a_known_numbering(tmp_path, amos, numbering):
    names = NUMBERINGS[numbering]
    found = [names.index(name) for name in ("liver", "kidney_right", "colon", "kidney_left")]
    scored = evaluate_mapped(write(tmp_path / "p.nii.gz", found), amos, load_mapping("amos_ct"), names)
    assert {name: value for name, value in scored.scores.items() if value == value} == {
        "liver": 1.0,
        "kidney_right": 1.0,
        "kidney_left": 0.0,
    }
    assert scored.not_evaluable == ("prostate_uterus",)
    assert scored.means == {"Table 9": 0.5, "evaluable": pytest.approx(2 / 3), "released script": pytest.approx(2 / 3)}


def test_the_datasets_own_numbering_can_give_every_target(tmp_path, amos):
    scored = evaluate_mapped(amos, amos, load_mapping("amos_ct"), None)
    assert scored.not_evaluable == () and scored.scores["prostate_uterus"] == 1.0
    assert scored.means["Table 9"] == scored.means["evaluable"] == 1.0


def test_remarks(tmp_path, amos):
    remarks = evaluate_mapped(amos, amos, load_mapping("amos_ct"), None).remarks
    assert any(remark.startswith("prostate_uterus: TotalSegmentator v1 has no such class") for remark in remarks)
    assert remarks[-1] == "Cases scored: 1; AMOS-CT has 200 in the paper."


def test_for_json(tmp_path, amos):
    prediction = write(tmp_path / "p.nii.gz", [LABELS.index("liver"), 0, 0, 0])
    content = evaluate_mapped(prediction, amos, load_mapping("amos_ct"), LABELS).to_dict()
    assert (content["mapping"], content["not_evaluable"]) == ("amos_ct", ["prostate_uterus"])
    assert content["means"]["Table 9"] == 0.25
    nobody = write(tmp_path / "nobody.nii.gz", [0, 0, 0, 0])
    means = evaluate_mapped(nobody, nobody, load_mapping("btcv"), LABELS).to_dict()["means"]
    assert set(means.values()) == {None}


def test_scores_of_cases(tmp_path, amos):
    scored = evaluate_mapped(amos, amos, load_mapping("amos_ct"), None)
    assert scored.cases_of("liver") == {"reference": 1.0}
    assert math.isnan(scored.cases_of("spleen")["reference"])


def test_labels_that_the_mapping_does_not_know(tmp_path, amos):
    odd = write(tmp_path / "odd.nii.gz", [6, 16, 0, 0])
    with pytest.raises(UserError, match=r"odd\.nii\.gz: the label 16 is not in the mapping"):
        evaluate_mapped(amos, odd, load_mapping("amos_ct"), LABELS)
    odd = write(tmp_path / "odd.nii.gz", [105, 0, 0, 0])
    with pytest.raises(UserError, match=r"odd\.nii\.gz: the label 105 is not in the mapping"):
        evaluate_mapped(odd, amos, load_mapping("amos_ct"), LABELS)


def test_real_labels_in_three_numberings(shared_data):
    """The same labels in two numberings agree; version 2 lacks the heart's parts and five others."""
    example, ours = shared_data / "totalseg_example", load_mapping("totalsegmentator")
    reference = example / "labels_stunet104.nii.gz"
    for file, numbering in (
        ("labels_v1_104", "totalsegmentator-v1"),
        ("labels_v2_117_original", "totalsegmentator-v2"),
    ):
        scored = evaluate_mapped(example / f"{file}.nii.gz", reference, ours, NUMBERINGS[numbering])
        present = [value for value in scored.scores.values() if value == value]
        assert present == [1.0] * 57
        assert len(scored.not_evaluable) == (7 if numbering == "totalsegmentator-v2" else 0)
