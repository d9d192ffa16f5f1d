import json

import nibabel
import numpy as np
import pytest

from stunet.batch.outputs import Outputs
from stunet.batch.request import request_for
from stunet.batch.segmenter import OnThisMachine
from stunet.errors import FileError, UserError
from stunet.inference.predictor import Predictor
from tests.inference.samples import EXACT, tiny_model
from tests.phantoms import smooth_scan, write_dicom_series


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
        OnThisMachine(lambda: predictor), on_result=lambda result, _: told.append(result)
    )
    many = request_for(tmp_path / "scans", tmp_path / "out", Outputs()).predict(OnThisMachine(lambda: predictor))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "out" / "a.nii.gz").read_bytes()
    assert json.loads((tmp_path / "a.report.json").read_text()) == json.loads(json.dumps(one.report))
    assert json.loads((tmp_path / "out" / "stunet_report.json").read_text()) == json.loads(json.dumps(many.report))
    (case,) = many.report["cases"]
    assert case["volumes_mm3"] == one.report["volumes_mm3"]
    assert {key for key in case if key != "case"} == set(one.report) - set(many.report) - {"files"} | {"warnings"}
    (line,) = (tmp_path / "out" / "stunet_cases.jsonl").read_text().splitlines()
    recorded = json.loads(line)
    assert recorded.pop("answer")["step"] == 0.5 and recorded == case
    assert [result.files for result in told] == [(tmp_path / "a.nii.gz",)]
    assert (one.failed, many.failed, many.internal_errors) == (0, 0, 0)


def test_a_damaged_scan_is_told_before_the_model_is_loaded(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"no scan")
    with pytest.raises(UserError, match=r"a\.nii\.gz"):
        request_for(tmp_path / "a.nii.gz", tmp_path / "labels.nii.gz", Outputs()).predict(OnThisMachine(never))
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


def test_a_fault_of_ours_in_a_single_scan_is_raised(tmp_path, predictor, monkeypatch):
    scan = write_scan(tmp_path / "a.nii.gz")
    monkeypatch.setattr(predictor, "predict", lambda *_: (_ for _ in ()).throw(ZeroDivisionError("a fault")))
    with pytest.raises(ZeroDivisionError, match="a fault"):
        request_for(scan, tmp_path / "labels.nii.gz", Outputs()).predict(OnThisMachine(lambda: predictor))


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
    summary = request.predict(OnThisMachine(lambda: predictor))
    assert (summary.failed, summary.internal_errors) == (2, 1)
    assert ["error" in case for case in summary.report["cases"]] == [True, False, True]


def test_a_model_that_cannot_be_loaded_ends_a_folder_before_it_is_made(tmp_path):
    (tmp_path / "scans").mkdir()
    write_scan(tmp_path / "scans" / "a.nii.gz")

    def load():
        raise UserError("there is no such model")

    with pytest.raises(UserError, match="no such model"):
        request_for(tmp_path / "scans", tmp_path / "out", Outputs()).predict(OnThisMachine(load))
    assert not (tmp_path / "out").exists()


def test_several_files_for_one_label_map_are_channels_of_the_model(tmp_path, predictor):
    scans = [write_scan(tmp_path / f"{name}.nii.gz") for name in "ab"]
    with pytest.raises(UserError) as refused:
        request_for(scans, tmp_path / "labels.nii.gz", Outputs()).predict(OnThisMachine(lambda: predictor))
    said = str(refused.value)
    assert f"{scans[0]}, {scans[1]} are 2 channels of one scan, but the model takes 1 (" in said
    assert "give -o a folder" in said and "a model with 2 channels" in said
    two = Predictor(tiny_model(input_channels=2), EXACT)
    request_for(scans, tmp_path / "labels.nii.gz", Outputs()).predict(OnThisMachine(lambda: two))
    labels = np.asarray(nibabel.load(tmp_path / "labels.nii.gz").dataobj).T
    assert np.array_equal(labels, two.predict(scans).labels)


@pytest.mark.parametrize("place", ["folder", "file"])
def test_dicom_that_is_left_out_is_said_and_reported(tmp_path, caplog, predictor, place):
    (tmp_path / "scans").mkdir()
    write_scan(tmp_path / "scans" / "a.nii.gz")
    write_dicom_series(tmp_path / "scans" / "ct", smooth_scan((3, 8, 8)))
    if place == "file":
        with pytest.raises(FileError, match=r"holds DICOM files and images such as .*; name the image to segment it"):
            request_for(tmp_path / "scans", tmp_path / "labels.nii.gz", Outputs())
        return
    summary = request_for(tmp_path / "scans", tmp_path / "out", Outputs()).predict(OnThisMachine(lambda: predictor))
    sentence = summary.report["warnings"][0]
    assert str(tmp_path / "scans" / "ct") in sentence and sentence in caplog.text


@pytest.mark.parametrize("outputs", [Outputs(statistics=True), Outputs(preview=True), Outputs(probabilities=True)])
@pytest.mark.parametrize("place", ["folder", "file"])
def test_names_too_long_for_what_lies_beside_the_labels(tmp_path, predictor, outputs, place, monkeypatch):
    monkeypatch.setattr(predictor, "predict", never)
    name = "x" * (255 - len(".nii.gz"))
    (tmp_path / "scans").mkdir()
    write_scan(tmp_path / "scans" / f"{name if place == 'folder' else 'a'}.nii.gz")
    output = tmp_path / (f"{name}.nii.gz" if place == "file" else "out")
    with pytest.raises(UserError, match="the name of this output would have"):
        request_for(tmp_path / "scans", output, outputs).predict(OnThisMachine(lambda: predictor))
    assert [path.name for path in tmp_path.iterdir()] == ["scans"]
