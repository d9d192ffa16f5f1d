import json

import nibabel
import numpy as np
import pytest

from stunet.imaging.formats.dicom.choose import read_dicom
from tests.imaging.dicom.samples import change
from tests.phantoms import smooth_scan, write_dicom_series


@pytest.fixture
def folder(tmp_path):
    """A thin and a thick CT series, an MR series and a screen capture."""
    folder = tmp_path / "export"
    write_dicom_series(folder / "thin", smooth_scan((20, 18, 12)), SeriesNumber=3, SeriesDescription="thin B30f")
    thick = {"SeriesInstanceUID": "1.7", "SeriesNumber": 2, "SeriesDescription": "thick", "ConvolutionKernel": "B60f"}
    write_dicom_series(folder / "thick", smooth_scan((16, 18, 12), 1), **thick)
    mr = {"SeriesInstanceUID": "1.8", "SeriesNumber": 4, "Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}
    write_dicom_series(folder / "mr", smooth_scan((14, 18, 12), 2), **mr)
    capture = write_dicom_series(folder / "capture", smooth_scan((1, 18, 12)))[0]
    change(capture, SOPClassUID="1.2.840.10008.5.1.4.1.1.7", SeriesInstanceUID="1.9")
    return folder


def test_no_field_of_a_header_writes_to_the_terminal_or_names_the_patient(stunet, capsys, tmp_path):
    fields = {"SeriesDescription": "[bold]thorax\x1b[2J", "PatientName": "Zaphod^Beeblebrox", "PatientID": "HHG42"}
    write_dicom_series(tmp_path / "in", smooth_scan((4, 5, 6)), **fields, PatientBirthDate="19521011")
    for options in ((), ("--json",)):
        assert stunet("series", tmp_path / "in", *options) == 0
        captured = capsys.readouterr()
        assert "[bold]thorax" in captured.out and "\x1b" not in captured.out
        for secret in ("Zaphod", "HHG42", "19521011"):
            assert secret not in captured.out + captured.err


def test_the_table_for_people(stunet, capsys, folder):
    assert stunet("series", folder) == 0
    captured = capsys.readouterr()
    lines = [line.split() for line in captured.out.splitlines() if line.strip()]
    assert [line[:3] for line in lines[1:]] == [["1", "CT", "thick"], ["2", "CT", "thin"], ["3", "MR", "14"]]
    assert "B60f" in lines[1] and "Skipped: 1 x Secondary Capture Image Storage." in captured.err
    assert "with a model for CT: choose one with --series." in captured.err
    assert "with a model for MR: series 3 is taken." in captured.err


def test_the_table_for_machines(stunet, capsys, folder):
    (folder / "mr/slice003.dcm").unlink()
    assert stunet("series", folder, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert [(one["number"], one["uid"], one["slices"]) for one in result["series"]] == [
        (1, "1.7", 16),
        (2, "1.2.3.5", 20),
        (3, "1.8", 13),
    ]
    assert result["series"][0]["spacing_mm"] == [0.75, 0.5, 2.0]
    assert [one["readable"] for one in result["series"]] == [True, True, False]
    assert "slices are missing" in result["series"][2]["against"][0]
    assert result["taken"] == {"CT": None, "MR": None}
    assert result["passed"] == {"Secondary Capture Image Storage": 1}


def test_strict_geometry_speaks_against_a_tilt(stunet, capsys, tmp_path):
    for z, path in enumerate(write_dicom_series(tmp_path / "tilted", smooth_scan((4, 5, 6)))):
        change(path, ImagePositionPatient=[0, z, 2 * z])
    for options, readable in (((), True), (("--strict-geometry",), False)):
        assert stunet("series", tmp_path / "tilted", "--json", *options) == 0
        (series,) = json.loads(capsys.readouterr().out)["series"]
        assert series["readable"] == readable and "tilted by 26.6 degrees" in series["against"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no such file or folder"), (b"text", "holds no DICOM slices (1 x file that is not DICOM)")],
)
def test_nothing_to_list_is_a_sentence(stunet, capsys, tmp_path, content, reason):
    if content is not None:
        (tmp_path / "notes.txt").write_bytes(content)
    assert stunet("series", tmp_path / ("missing" if content is None else ".")) == 2
    error = capsys.readouterr().err
    assert reason in error and "Traceback" not in error


def labels(path):
    return np.asarray(nibabel.load(path).dataobj).T


def test_predict_asks_which_series_and_takes_the_named(stunet, capsys, folder, model_file, tmp_path):
    output = tmp_path / "labels.nii.gz"
    arguments = ("predict", "-i", folder, "-o", output, "-m", model_file)
    assert stunet(*arguments) == 2
    error = capsys.readouterr().err
    assert "3 series that could be meant" in error and "thin B30f" in error and not output.exists()
    for series, name in (("2", "thin"), ("1.7", "thick")):
        assert stunet(*arguments, "--series", series) == 0
        assert labels(output).shape == read_dicom(folder / name).shape
    assert stunet(*arguments, "--series", "all") == 2
    assert "3 series are to be segmented, so -o must be a folder" in capsys.readouterr().err


def test_all_series_of_a_folder(stunet, folder, model_file, tmp_path):
    assert stunet("predict", "-i", folder, "-o", tmp_path / "out", "-m", model_file, "--series", "all") == 0
    written = {path.name: labels(path).shape[0] for path in (tmp_path / "out").glob("*.nii.gz")}
    assert written == {"thick.nii.gz": 16, "thin.nii.gz": 20, "mr.nii.gz": 14}


def test_a_folder_of_patients_gives_one_output_for_each(stunet, capsys, model_file, tmp_path):
    """Of each study the plainly best series; one that is unclear costs no other."""
    for number, slices in enumerate((20, 18, 16)):
        fields = {"StudyInstanceUID": f"1.{number}", "SeriesInstanceUID": f"1.{number}.1"}
        write_dicom_series(tmp_path / f"in/p_000{number}/CT", smooth_scan((slices, 18, 12), number), **fields)
    short = {"StudyInstanceUID": "1.0", "SeriesInstanceUID": "1.0.2"}
    write_dicom_series(tmp_path / "in/p_0000/bolus", smooth_scan((3, 18, 12)), **short)
    twin = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.2"}
    write_dicom_series(tmp_path / "in/p_0002/CT2", smooth_scan((16, 18, 12)), **twin)
    assert stunet("predict", "-i", tmp_path / "in", "-o", tmp_path / "out", "-m", model_file) == 2
    assert "2 series that could be meant" in capsys.readouterr().err
    written = {path.name: labels(path).shape[0] for path in (tmp_path / "out").glob("*.nii.gz")}
    assert written == {"p_0000_CT.nii.gz": 20, "p_0001_CT.nii.gz": 18}
    report = json.loads((tmp_path / "out/stunet_report.json").read_text())
    assert ["error" in case for case in report["cases"]] == [False, False, True]
    assert "took series 1 (CT, 20 slices) of 2" in report["cases"][0]["warnings"][0]


def test_images_beside_dicom_are_never_taken_for_the_scan(stunet, capsys, model_file, tmp_path):
    write_dicom_series(tmp_path / "in/CT", smooth_scan((20, 18, 12)))
    arguments = ("predict", "-i", tmp_path / "in", "-o", tmp_path / "in/labels.nii.gz", "-m", model_file)
    assert stunet(*arguments) == 0
    written = (tmp_path / "in/labels.nii.gz").read_bytes()
    assert stunet(*arguments) == 2
    assert f"holds DICOM files and images such as {tmp_path / 'in/labels.nii.gz'}" in capsys.readouterr().err
    assert (tmp_path / "in/labels.nii.gz").read_bytes() == written
    assert stunet(*arguments, "--series", "1") == 0
    assert labels(tmp_path / "in/labels.nii.gz").shape == (20, 18, 12)


def test_a_tilted_series_is_resampled_and_said_so(stunet, capsys, model_file, tmp_path):
    for z, path in enumerate(write_dicom_series(tmp_path / "tilted", smooth_scan((20, 18, 12)))):
        change(path, ImagePositionPatient=[0, 0.5 * z, 2 * z])
    arguments = ("predict", "-i", tmp_path / "tilted", "-o", tmp_path / "labels.nii.gz", "-m", model_file)
    assert stunet(*arguments, "--strict-geometry") == 2
    assert "tilted by 14.0 degrees" in capsys.readouterr().err and not (tmp_path / "labels.nii.gz").exists()
    assert stunet(*arguments) == 0
    (warning,) = json.loads((tmp_path / "labels.report.json").read_text())["warnings"]
    assert "tilted by 14.0 degrees" in warning and "resampled" in warning
    assert labels(tmp_path / "labels.nii.gz").shape == (20, 18 + 19, 12)


def test_options_for_dicom_need_dicom(stunet, capsys, scan, model_file, tmp_path):
    assert stunet("predict", "-i", scan, "-o", tmp_path / "l.nii.gz", "-m", model_file, "--series", "1") == 2
    assert "are for DICOM" in capsys.readouterr().err


def test_a_zip_is_a_scan(stunet, model_file, tmp_path):
    import shutil

    write_dicom_series(tmp_path / "series", smooth_scan((20, 18, 12)))
    shutil.make_archive(str(tmp_path / "export"), "zip", tmp_path / "series")
    (tmp_path / "out").mkdir()
    assert stunet("predict", "-i", tmp_path / "export.zip", "-o", tmp_path / "out", "-m", model_file) == 0
    assert (tmp_path / "out/export.nii.gz").is_file()
