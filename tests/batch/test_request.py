import json

import nibabel
import numpy as np
import pytest

from stunet.batch.outputs import Outputs
from stunet.batch.request import request_for
from stunet.errors import UserError
from stunet.inference.predictor import Predictor
from tests.inference.samples import EXACT, tiny_model
from tests.phantoms import smooth_scan


def write_scan(path, seed=0):
    nibabel.save(nibabel.Nifti1Image(smooth_scan((20, 18, 12), seed), np.eye(4)), path)
    return path


@pytest.fixture(scope="module")
def predictor():
    return Predictor(tiny_model(), EXACT)


def never():
    raise AssertionError("the model was loaded")


def test_one_scan_is_a_folder_of_one(tmp_path, predictor):
    (tmp_path / "scans").mkdir()
    scan = write_scan(tmp_path / "scans" / "a.nii.gz")
    told = []
    one = request_for(scan, tmp_path / "a.nii.gz", Outputs()).predict(
        lambda: predictor, on_result=lambda result, _: told.append(result)
    )
    many = request_for(tmp_path / "scans", tmp_path / "out", Outputs()).predict(lambda: predictor)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "out" / "a.nii.gz").read_bytes()
    assert json.loads((tmp_path / "a.report.json").read_text()) == json.loads(json.dumps(one.report))
    assert json.loads((tmp_path / "out" / "stunet_report.json").read_text()) == json.loads(json.dumps(many.report))
    (case,) = many.report["cases"]
    assert case["volumes_mm3"] == one.report["volumes_mm3"]
    assert {key for key in case if key != "case"} == set(one.report) - set(many.report) - {"files"}
    (line,) = (tmp_path / "out" / "stunet_cases.jsonl").read_text().splitlines()
    recorded = json.loads(line)
    assert recorded.pop("answer")["step"] == 0.5 and recorded == case
    assert [result.files for result in told] == [(tmp_path / "a.nii.gz",)]
    assert (one.failed, many.failed, many.internal_errors) == (0, 0, 0)


def test_a_damaged_scan_is_told_before_the_model_is_loaded(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"no scan")
    with pytest.raises(UserError, match=r"a\.nii\.gz"):
        request_for(tmp_path / "a.nii.gz", tmp_path / "labels.nii.gz", Outputs()).predict(never)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


def test_a_fault_of_ours_in_a_single_scan_is_raised(tmp_path, predictor, monkeypatch):
    scan = write_scan(tmp_path / "a.nii.gz")
    monkeypatch.setattr(predictor, "predict", lambda *_: (_ for _ in ()).throw(ZeroDivisionError("a fault")))
    with pytest.raises(ZeroDivisionError, match="a fault"):
        request_for(scan, tmp_path / "labels.nii.gz", Outputs()).predict(lambda: predictor)


def test_a_folder_counts_whose_fault_it_was(tmp_path, predictor, monkeypatch):
    (tmp_path / "scans").mkdir()
    for name in "ab":
        write_scan(tmp_path / "scans" / f"{name}.nii.gz")
    (tmp_path / "scans" / "c.nii.gz").write_bytes(b"no scan")
    request = request_for(tmp_path / "scans", tmp_path / "out", Outputs())
    predict = predictor.predict

    def stumble(scan, *others):
        if "a.nii.gz" in scan.source:
            raise ZeroDivisionError("a fault")
        return predict(scan, *others)

    monkeypatch.setattr(predictor, "predict", stumble)
    summary = request.predict(lambda: predictor)
    assert (summary.failed, summary.internal_errors) == (2, 1)
    assert ["error" in case for case in summary.report["cases"]] == [True, False, True]


def test_a_model_that_cannot_be_loaded_ends_a_folder_before_it_is_made(tmp_path):
    (tmp_path / "scans").mkdir()
    write_scan(tmp_path / "scans" / "a.nii.gz")

    def load():
        raise UserError("there is no such model")

    with pytest.raises(UserError, match="no such model"):
        request_for(tmp_path / "scans", tmp_path / "out", Outputs()).predict(load)
    assert not (tmp_path / "out").exists()
