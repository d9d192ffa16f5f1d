import subprocess
import sys

from stunet.batch.find_scans import case_name, find_scans, is_folder_of_scans
from tests.phantoms import smooth_scan, write_dicom_series


def test_channels_make_one_case(tmp_path):
    for name in ("b_0001.nii.gz", "b_0000.nii.gz", "a_0000.nii", "c.nii.gz", "notes.txt", "d_12.nii"):
        (tmp_path / name).touch()
    cases = find_scans(tmp_path)
    assert [case.name for case in cases] == ["a", "b", "c", "d_12"]
    assert [file.name for file in cases[1].files] == ["b_0000.nii.gz", "b_0001.nii.gz"]


def test_the_name_of_a_dicom_folder(tmp_path):
    assert case_name(tmp_path / "series.1") == "series.1"


def test_a_folder_of_scans_is_not_a_dicom_series(tmp_path):
    write_dicom_series(tmp_path / "series", smooth_scan((3, 8, 8)))
    (tmp_path / "a.nii.gz").touch()
    assert is_folder_of_scans(tmp_path)
    assert not is_folder_of_scans(tmp_path / "series")
    assert not is_folder_of_scans(tmp_path / "lost")
    assert not is_folder_of_scans(tmp_path / "a.nii.gz")


def test_cases_and_names_of_outputs_are_known_without_torch():
    modules = "stunet.cli.predict", "stunet.imaging.formats.registry", "stunet.batch.request", "stunet.batch.outputs"
    program = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
