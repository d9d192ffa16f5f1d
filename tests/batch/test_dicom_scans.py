"""DICOM from Python: a series, a folder of patients, the name of each output."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from stunet import find_series, predict_cases, read_volume
from stunet.batch.dicom_scans import DicomChoice, dicom_scans
from stunet.errors import UserError
from stunet.inference.predictor import Predictor
from tests.inference.samples import tiny_model
from tests.phantoms import smooth_scan, write_dicom_series


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(tiny_model(num_classes=3))


def names(path: Path, series: str | None = None) -> list[str]:
    return [scan.name for scan in dicom_scans(path, DicomChoice(series), lambda: "CT", into_folder=True)]


def test_a_series_is_a_scan(tmp_path: Path, predictor: Predictor) -> None:
    write_dicom_series(tmp_path / "a", smooth_scan((20, 18, 12)))
    write_dicom_series(tmp_path / "b", smooth_scan((18, 18, 12)), SeriesInstanceUID="1.9", SeriesNumber=2)
    with pytest.raises(UserError, match="2 series that could be meant"):
        read_volume(tmp_path)
    series = find_series(tmp_path).series
    assert predictor.predict(series[1]).labels.shape == (18, 18, 12)
    results = list(predict_cases(predictor, series, tmp_path / "out"))
    assert [result.case.name for result in results] == ["a_series1", "b_series2"]
    expected = predictor.predict(read_volume(tmp_path / "a")).labels
    assert results[0].segmentation is not None
    np.testing.assert_array_equal(results[0].segmentation.labels, expected)


def test_a_folder_of_patients_from_python(tmp_path: Path, predictor: Predictor) -> None:
    for number in range(2):
        fields = {"StudyInstanceUID": f"1.{number}", "SeriesInstanceUID": f"1.{number}.1"}
        write_dicom_series(tmp_path / f"in/p{number}", smooth_scan((20, 18, 12), number), **fields)
    results = list(predict_cases(predictor, tmp_path / "in", tmp_path / "out"))
    assert [result.output.name for result in results if result.output] == ["p0.nii.gz", "p1.nii.gz"]


def test_images_beside_dicom_from_python(
    tmp_path: Path, predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    """As by the command: the images are segmented, and the DICOM files are named."""
    write_dicom_series(tmp_path / "in/ct", smooth_scan((20, 18, 12)))
    nibabel.save(nibabel.Nifti1Image(smooth_scan((12, 18, 20)), np.eye(4)), tmp_path / "in/mr.nii.gz")
    results = list(predict_cases(predictor, tmp_path / "in", tmp_path / "out"))
    assert [result.output.name for result in results if result.output] == ["mr.nii.gz"]
    assert f"the DICOM files in {tmp_path / 'in/ct'} are not segmented" in caplog.text


def test_the_models_modality_decides(tmp_path: Path, predictor: Predictor) -> None:
    write_dicom_series(tmp_path / "ct", smooth_scan((20, 18, 12)))
    mr = {"SeriesInstanceUID": "1.8", "Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}
    write_dicom_series(tmp_path / "mr", smooth_scan((18, 18, 12)), **mr)
    assert [read_volume(tmp_path, modality).shape[0] for modality in ("CT", "MR", "T2")] == [20, 18, 18]
    model = predictor.model
    for_mr = Predictor(replace(model, card=replace(model.card, channels=("T1",))))
    assert for_mr.predict(tmp_path).labels.shape[0] == 18


def test_names_tell_series_apart(tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    for number in range(2):
        series = {"SeriesInstanceUID": f"1.{number}", "SeriesNumber": number}
        for path in write_dicom_series(flat / "one", smooth_scan((4, 5, 6), number), **series):
            path.rename(flat / f"{number}{path.name}")
    (flat / "one").rmdir()
    assert names(flat, "all") == ["flat_series1", "flat_series2"]
    assert names(flat, "2") == ["flat"]
    for number in range(2):
        study = {"StudyInstanceUID": f"2.{number}", "SeriesInstanceUID": f"2.{number}"}
        write_dicom_series(tmp_path / f"patients/p{number}/day1", smooth_scan((4, 5, 6)), **study)
    assert names(tmp_path / "patients") == ["p0_day1", "p1_day1"]
    with pytest.raises(UserError, match="so -o must be a folder"):
        dicom_scans(flat, DicomChoice("all"), lambda: None, into_folder=False)
