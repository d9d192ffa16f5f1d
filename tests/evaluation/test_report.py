import json
import math

import nibabel
import numpy as np
import pytest

from stunet.errors import UserError
from stunet.evaluation.report import evaluate

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def write(path, values, affine=AFFINE):
    path.parent.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.asarray(values, np.uint8).reshape(2, 2, 2), affine), path)
    return path


@pytest.fixture
def folders(tmp_path):
    """Two cases: in `a` label 1 is half right and 2 absent; in `b` 1 is right and 2 is missed."""
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    write(predictions / "a.nii.gz", [1, 1, 0, 0, 0, 0, 0, 0])
    write(references / "a.nii.gz", [1, 0, 1, 0, 0, 0, 0, 0])
    write(predictions / "b.nii.gz", [1, 1, 0, 0, 0, 0, 0, 0])
    write(references / "b.nii.gz", [1, 1, 2, 0, 0, 0, 0, 0])
    return predictions, references


def test_a_folder(folders):
    report = evaluate(*folders)
    first, second = report.cases
    assert (first.case, second.case) == ("a", "b")
    assert first.dsc[1] == 0.5 and math.isnan(first.dsc[2])
    assert second.dsc == {1: 1.0, 2: 0.0}
    assert (first.mean, second.mean) == (0.5, 0.5)
    assert report.per_label == {1: 0.75, 2: 0.0}
    assert report.mean == 0.375


def test_names(folders):
    report = evaluate(*folders, names={1: "liver", 2: "spleen", 3: "aorta"})
    assert report.to_dict()["per_label"] == {"liver": 0.75, "spleen": 0.0, "aorta": None}
    assert report.mean == 0.375


def test_a_single_file(folders):
    predictions, references = folders
    report = evaluate(predictions / "a.nii.gz", references / "a.nii.gz")
    assert report.per_label == {1: 0.5}


def test_saved_as_json(folders, tmp_path):
    evaluate(*folders).save(tmp_path / "report.json")
    saved = json.loads((tmp_path / "report.json").read_text())
    assert saved["cases"]["a"] == {"1": 0.5, "2": None}
    assert saved["mean"] == 0.375
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_a_value_without_a_name(folders):
    with pytest.raises(UserError, match=r"b\.nii\.gz holds the value 2, for which there is no name"):
        evaluate(*folders, names={1: "liver"})


def test_a_missing_prediction(folders):
    (folders[0] / "b.nii.gz").unlink()
    with pytest.raises(UserError, match=r"1 of 2 references have no prediction in .*predictions: b"):
        evaluate(*folders)


def test_a_prediction_too_many_is_no_error(folders):
    write(folders[0] / "c.nii.gz", [1] * 8)
    assert len(evaluate(*folders).cases) == 2


def test_grids_that_differ(folders, tmp_path):
    predictions, _references = folders
    write(predictions / "a.nii.gz", [1] * 8, np.diag([1.0, 1.0, 2.1, 1.0]))
    with pytest.raises(UserError, match=r"a\.nii\.gz and its reference .* lie differently in space"):
        evaluate(*folders)
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 2, 3), np.uint8), AFFINE), predictions / "a.nii.gz")
    with pytest.raises(UserError, match=r"a\.nii\.gz has \(3, 2, 2\) voxels, its reference .* \(2, 2, 2\)"):
        evaluate(*folders)


def test_nothing_to_compare(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no .nii or .nii.gz file in .*empty"):
        evaluate(folders[0], tmp_path / "empty")
    with pytest.raises(UserError, match="two files or two folders"):
        evaluate(folders[0], folders[1] / "a.nii.gz")
    with pytest.raises(UserError, match="lost"):
        evaluate(tmp_path / "lost.nii.gz", folders[1] / "a.nii.gz")
