"""Many scans from Python give the files that the predictor's own labels would be."""

import threading

import nibabel
import numpy as np
import pytest

from stunet.batch.outputs import Outputs
from stunet.batch.predict_scans import predict_cases
from stunet.errors import Stopped, UserError
from stunet.inference.predictor import InferenceConfig, Predictor
from tests.batch.test_predict_cases import write_scan
from tests.inference.samples import EXACT, tiny_model


@pytest.fixture(scope="module")
def predictor():
    return Predictor(tiny_model(), EXACT)


@pytest.fixture
def scans(tmp_path):
    (tmp_path / "scans").mkdir()
    return [write_scan(tmp_path / "scans" / f"{name}.nii.gz", seed) for seed, name in enumerate("abc")]


def test_a_list_a_folder_and_one_scan(tmp_path, scans, predictor):
    for number, asked in enumerate((scans, (str(path) for path in scans), tmp_path / "scans", str(scans[1]))):
        folder = tmp_path / f"out{number}" / "labels"
        results = list(predict_cases(predictor, asked, folder, outputs=Outputs(statistics=True)))
        assert [result.case.name for result in results] == (["b"] if number == 3 else list("abc"))
        for result in results:
            labels = np.asarray(nibabel.load(folder / f"{result.case.name}.nii.gz").dataobj).T
            assert np.array_equal(labels, predictor.predict(result.case.files[0]).labels)
            assert np.array_equal(labels, result.segmentation.labels)
            assert result.files[1].name == f"{result.case.name}.statistics.json"


def test_channels_and_a_model(tmp_path, scans):
    model = tiny_model(input_channels=2)
    (result,) = predict_cases(model, [scans[:2]], tmp_path / "out", config=EXACT)
    assert np.array_equal(result.segmentation.labels, Predictor(model, EXACT).predict(scans[:2]).labels)


def test_a_bad_scan_costs_only_itself(tmp_path, scans, predictor):
    scans[0].write_bytes(b"no scan")
    bad, good, missing = predict_cases(predictor, [scans[0], scans[1], tmp_path / "none.nii"], tmp_path / "out")
    assert "a.nii.gz" in bad.error and good.error is None and "no such file" in missing.error
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.nii.gz"]


def test_work_is_done_when_results_are_asked_for_and_resumed(tmp_path, scans, predictor):
    results = predict_cases(predictor, scans, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    next(results)
    results.close()
    assert (tmp_path / "out" / "a.nii.gz").exists()
    resumed = list(predict_cases(predictor, scans, tmp_path / "out", resume=True))
    assert resumed[0].segmentation is None and resumed[2].segmentation is not None


@pytest.mark.parametrize("way", ["event", "callback"])
def test_stopping_ends_all(tmp_path, scans, predictor, way):
    stop, threads = threading.Event(), set(threading.enumerate())

    def tell(done, total):
        if way == "callback":
            raise Stopped("enough")
        stop.set()

    with pytest.raises(Stopped):
        list(predict_cases(predictor, scans, tmp_path / "out", on_window=tell, stop=stop))
    assert list((tmp_path / "out").iterdir()) == [] and set(threading.enumerate()) == threads


@pytest.mark.parametrize(
    ("asked", "config", "sentence"),
    [
        ([], None, "no scans"),
        ([[]], None, "has no files"),
        (["a/scan.nii.gz", "b/scan.nii.gz"], None, "a.scan.nii.gz and b.scan.nii.gz have one name, .scan."),
        (["a.nii.gz"], InferenceConfig(), "has a configuration already"),
    ],
)
def test_what_is_refused_at_once(tmp_path, predictor, asked, config, sentence):
    with pytest.raises(UserError, match=sentence):
        predict_cases(predictor, asked, tmp_path / "out", config=config)
    assert not (tmp_path / "out").exists()
