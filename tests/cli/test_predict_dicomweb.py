"""From a series on a server to a segmentation on it, with Orthanc."""

import json

import nibabel
import numpy as np
import pydicom
import pytest

from stunet.imaging.formats.dicomweb.retrieve import retrieve
from stunet.imaging.formats.dicomweb.store import store
from tests.imaging.dicom.marked_series import COMMON
from tests.imaging.dicomweb.orthanc import PASSWORD, USER, needs_orthanc, running_orthanc
from tests.phantoms import smooth_scan, write_dicom_series

pytestmark = needs_orthanc

SHAPE = (20, 18, 12)
STUDY = "/studies/1.2.3.6"
SERIES = f"{STUDY}/series/1.2.3.5"


@pytest.fixture
def series(tmp_path):
    fields = {**COMMON, "PatientName": "Zweifelhaft^Qorina", "PatientID": "ID-7741-XQ", "SeriesDescription": "thin"}
    write_dicom_series(tmp_path / "scan", smooth_scan(SHAPE), **fields)
    return tmp_path / "scan"


@pytest.fixture
def orthanc(tmp_path, monkeypatch, series):
    """Orthanc with the series, and with a report in the same study."""
    monkeypatch.setenv("STUNET_DICOMWEB_USER", USER)
    monkeypatch.setenv("STUNET_DICOMWEB_PASSWORD", PASSWORD)
    (tmp_path / "orthanc").mkdir()
    with running_orthanc(tmp_path / "orthanc") as address:
        report = pydicom.dcmread(next(series.iterdir()))
        report.SOPInstanceUID, report.SeriesInstanceUID, report.Modality = "1.2.3.4.99", "1.2.3.99", "SR"
        del report.PixelData
        report.save_as(tmp_path / "report.dcm")
        store([*series.iterdir(), tmp_path / "report.dcm"], address)
        yield address


@pytest.fixture
def expected(stunet, series, model_file, tmp_path):
    """The labels (Z, Y, X) of the same files."""
    assert stunet("predict", "-i", series, "-o", tmp_path / "expected.nii.gz", "-m", model_file, "--quiet") == 0
    labels = np.asarray(nibabel.load(tmp_path / "expected.nii.gz").dataobj).T
    assert len(np.unique(labels)) == 3
    return labels


def labels_of(path):
    """The labels (Z, Y, X) of a segmentation, from the lowest slice."""
    dataset = pydicom.dcmread(path)
    frames = dataset.PerFrameFunctionalGroupsSequence
    heights = [frame.PlanePositionSequence[0].ImagePositionPatient[2] for frame in frames]
    return dataset.pixel_array[np.argsort(heights)]


def is_clean(stunet_home):
    """Whether nothing of a series or a result was left."""
    return not list((stunet_home / "cache/dicomweb").iterdir())


def test_a_series_becomes_a_segmentation_on_the_server(stunet, capfd, orthanc, expected, model_file, tmp_path):
    assert stunet("predict", "-i", orthanc + SERIES, "-o", orthanc, "-m", model_file, "--json") == 0
    printed = capfd.readouterr()
    record = json.loads(printed.out)
    assert record["input"] == orthanc + SERIES and record["output"] == orthanc
    (stored,) = record["stored"]
    assert stored["study"] == "1.2.3.6" and stored["series"] != "1.2.3.5"
    assert "Zweifelhaft" not in printed.out + printed.err and "ID-7741" not in printed.out + printed.err
    assert PASSWORD not in printed.out + printed.err

    (path,) = retrieve(f"{orthanc}{STUDY}/series/{stored['series']}", tmp_path / "back")
    assert np.array_equal(labels_of(path), expected)
    back = pydicom.dcmread(path)
    assert back.Modality == "SEG" and back.PatientName == "Zweifelhaft^Qorina"
    assert {item.ReferencedSOPInstanceUID for item in back.ReferencedSeriesSequence[0].ReferencedInstanceSequence} == {
        f"1.2.3.4.{number + 1}" for number in range(SHAPE[0])
    }
    assert is_clean(tmp_path / "stunet_home")


def test_from_a_server_to_a_file(stunet, capsys, orthanc, expected, model_file, tmp_path):
    """A study with one series that may be a scan needs no more."""
    assert stunet("predict", "-i", orthanc + STUDY, "-o", tmp_path / "out.nii.gz", "-m", model_file) == 0
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "out.nii.gz").dataobj).T, expected)
    report = json.loads((tmp_path / "out.report.json").read_text())
    assert report["input"] == orthanc + STUDY and report["output"] == str(tmp_path / "out.nii.gz")
    assert is_clean(tmp_path / "stunet_home")


def test_from_a_folder_to_a_server_in_several_formats(stunet, capsys, orthanc, series, expected, model_file, tmp_path):
    formats = ("--format", "rtstruct", "dicom-seg-binary")
    assert stunet("predict", "-i", series, "-o", orthanc, "-m", model_file, *formats, "--json") == 0
    stored = json.loads(capsys.readouterr().out)["stored"]
    paths = [retrieve(f"{orthanc}{STUDY}/series/{one['series']}", tmp_path / one["series"])[0] for one in stored]
    found = {pydicom.dcmread(path).Modality: path for path in paths}
    assert set(found) == {"RTSTRUCT", "SEG"}
    binary = pydicom.dcmread(found["SEG"])
    for frame, mask in zip(binary.PerFrameFunctionalGroupsSequence, binary.pixel_array, strict=True):
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        height = frame.PlanePositionSequence[0].ImagePositionPatient[2]
        assert np.array_equal(mask, expected[round((height - 30) / 2)] == number)


def test_two_series_of_a_study(stunet, capsys, orthanc, expected, model_file, tmp_path):
    other = tmp_path / "other"
    fields = {**COMMON, "SeriesInstanceUID": "1.2.3.8", "SeriesDescription": "thick"}
    for number, path in enumerate(write_dicom_series(other, smooth_scan(SHAPE, 1), **fields)):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = f"1.2.3.9.{number}"
        dataset.save_as(path)
    store(list(other.iterdir()), orthanc)
    command = ("predict", "-i", orthanc + STUDY, "-o", tmp_path / "out.nii.gz", "-m", model_file)
    assert stunet(*command) == 2
    said = capsys.readouterr().err
    assert "holds 2 series that could be meant; choose with --series NUMBER" in said
    assert "1.2.3.5" in said and "thick" in said and "SR" not in said
    assert stunet(*command, "--series", "7") == 2
    assert "has no series '7'" in capsys.readouterr().err
    assert stunet(*command, "--series", "1") == 0
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "out.nii.gz").dataobj).T, expected)

    assert stunet("series", orthanc + STUDY) == 0
    assert "thick" in capsys.readouterr().out
    assert stunet("series", orthanc + STUDY, "--json") == 0
    listed = json.loads(capsys.readouterr().out)["series"]
    assert [(one["uid"], one["instances"]) for one in listed] == [("1.2.3.5", 20), ("1.2.3.8", 20)]

    both = (orthanc + SERIES, f"{orthanc}{STUDY}/series/1.2.3.8")
    assert stunet("predict", "-i", *both, "-o", orthanc, "-m", model_file, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["stored"]) == 2 and {case["input"] for case in record["cases"]} == set(both)
