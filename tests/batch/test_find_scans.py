import subprocess
import sys
from pathlib import Path

import pytest

from stunet.batch.find_scans import find_cases, is_folder_of_scans, require_scans, scan_files, scan_name
from stunet.errors import UserError
from tests.phantoms import smooth_scan, write_dicom_series


@pytest.fixture
def folder(tmp_path):
    def write(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return write


def found(folder, channels):
    """Name to names of files, or to the problem."""
    cases = find_cases(folder, channels)
    return {case.name: case.problem or [path.name for path in case.files] for case in cases}


def test_channels_make_one_case(folder):
    names = ("b_0001.nii.gz", "b_0000.nii.gz", "a_0000.nii", "a_0001.NII", "c.nii.gz", "notes.txt", "d_12.nii")
    assert found(folder(*names), 2) == {
        "a": ["a_0000.nii", "a_0001.NII"],
        "b": ["b_0000.nii.gz", "b_0001.nii.gz"],
        "c": ["c.nii.gz"],
        "d_12": ["d_12.nii"],
    }


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_years_and_counts_are_no_channels(folder, channels):
    """nnU-Net's #77 and #1971."""
    names = ["amos_0004", "brain_2021", "brain_2022", "run_0009", "run_0010", "run_0011"]
    expected = {name: [f"{name}.nii"] for name in names}
    if channels == 4:
        expected = {name: files for name, files in expected.items() if name != "amos_0004"} | {
            "amos_0004": ["amos_0004.nii"]
        }
    assert found(folder(*(f"{name}.nii" for name in names)), channels) == expected


def test_a_first_channel_alone_gives_the_case_its_name(folder):
    assert found(folder("x_0000.nii", "y.nii"), 1) == {"x": ["x_0000.nii"], "y": ["y.nii"]}


@pytest.mark.parametrize(
    ("names", "channels", "problem"),
    [
        (("a_0000.nii", "a_0002.nii"), 2, "a: channel 0001 is missing; the model takes channels 0000 to 0001."),
        (("a_0001.nii", "a_0002.nii"), 2, "a: channel 0000 is missing; the model takes channels 0000 to 0001."),
        (("a_0001.nii",), 2, "a: channel 0000 is missing; the model takes channels 0000 to 0001."),
        (("a_0000.nii", "a_0001.nii"), 1, "a: a_0000.nii, a_0001.nii are 2 channels of one scan by their names, but"),
        (
            [f"scan_{number:04d}.nii" for number in range(4)],
            1,
            "scan: scan_0000.nii, scan_0001.nii, scan_0002.nii, scan_0003.nii are 4 channels of one scan by their "
            "names, but the model takes one. If one of them is what the model takes, give that file alone. If each is "
            "a scan, rename them, such as scan_a and scan_b: ",
        ),
        (("a_0000.nii", "a_0001.nii"), 4, "a: channel 0002, 0003 is missing; the model takes channels 0000 to 0003."),
        (("a.nii", "a.nii.gz"), 1, "a: a.nii and a.nii.gz are the same image by name; keep one of them."),
        (("a.nii", "a_0000.nii"), 1, "a: a.nii and a_0000.nii are the same image by name; keep one of them."),
        (
            ("a_0000.nii", "a_0000.nii.gz", "a_0001.nii"),
            2,
            "a: a_0000.nii and a_0000.nii.gz are the same",
        ),
    ],
)
def test_gaps_and_doubles_are_no_cases(folder, names, channels, problem):
    """nnU-Net's #1187 and #698."""
    (case,) = find_cases(folder(*names), channels)
    assert case.problem.startswith(problem)


def test_hidden_files_and_capitals(folder):
    names = ("._a.nii.gz", ".b.nii.gz", "a.nii.gz", "B.NII.GZ", "C.Nii", ".hidden/d.nii")
    assert [scan.name for scan in scan_files(folder(*names))] == ["B", "C", "a"]


def test_scans_in_subfolders_are_named_after_them(folder):
    nested = folder(
        "s1/ct.nii.gz", "s2/ct.nii.gz", "s2/pet.nii.gz", "x.nii/x.nii", "deep/er/scan.nii", "text/notes.txt"
    )
    assert is_folder_of_scans(nested)
    assert [scan.name for scan in scan_files(nested)] == ["deep_er", "s1", "s2_ct", "s2_pet", "x"]


@pytest.mark.parametrize("channels", [1, 2])
def test_the_number_of_a_folder_is_no_channel(folder, channels):
    names = ("p_0000/ct.nii", "p_0001/ct.nii", "p_0002/ct.nii", "q_0001/t1.nii", "q_0001/t2.nii", "r_0000/mr_0000.nii")
    assert found(folder(*names), channels) == {
        **{f"p_{number:04d}": ["ct.nii"] for number in range(3)},
        "q_0001_t1": ["t1.nii"],
        "q_0001_t2": ["t2.nii"],
        "r_0000": ["mr_0000.nii"],
    }


def test_channels_in_a_folder_with_a_number(folder):
    nested = folder("p_0000/mr_0000.nii", "p_0000/mr_0001.nii", "p_0001/mr_0000.nii", "p_0001/mr_0001.nii")
    files = ["mr_0000.nii", "mr_0001.nii"]
    assert found(nested, 2) == {"p_0000_mr": files, "p_0001_mr": files}


def test_names_of_single_scans(tmp_path):
    (tmp_path / "series_0000").mkdir()
    assert scan_name(tmp_path / "series.1") == "series.1" and scan_name(tmp_path / "series_0000") == "series_0000"
    assert scan_name(Path("a_0000.NII.GZ")) == "a" and scan_name(Path("brain_2021.nii.gz")) == "brain_2021"


def test_an_empty_folder(folder):
    with pytest.raises(UserError, match="the folder is empty"):
        require_scans(folder(".hidden"))


def test_a_folder_of_scans_is_not_a_dicom_series(tmp_path):
    write_dicom_series(tmp_path / "series", smooth_scan((3, 8, 8)))
    assert not is_folder_of_scans(tmp_path)
    (tmp_path / "a.nii.gz").touch()
    assert is_folder_of_scans(tmp_path)
    assert not is_folder_of_scans(tmp_path / "series")
    assert not is_folder_of_scans(tmp_path / "lost")
    assert not is_folder_of_scans(tmp_path / "a.nii.gz")


def test_cases_and_names_of_outputs_are_known_without_torch():
    modules = "stunet.cli.predict", "stunet.imaging.formats.registry", "stunet.batch.request", "stunet.batch.outputs"
    program = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
