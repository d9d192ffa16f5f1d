import pytest

from stunet.batch.find_scans import join_channels
from stunet.batch.named_scans import dicom_left_out, scans_named
from tests.phantoms import smooth_scan, write_dicom_series


@pytest.fixture
def write(tmp_path):
    def write(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return [tmp_path / name for name in names]

    return write


def cases(paths, channels=1):
    return {case.name: list(case.files) for case in join_channels(scans_named(paths), channels) if not case.problem}


def test_files_of_one_name_get_their_folders_name(write):
    first, second, other = write("f1/x.nii.gz", "f2/x.nii", "f2/y.nii.gz")
    assert cases([first, second, other]) == {"f1_x": [first], "f2_x": [second], "y": [other]}


def test_channels_of_one_name_get_their_folders_name(write):
    files = write("f1/x_0000.nii", "f1/x_0001.nii", "f2/x_0000.nii", "f2/x_0001.nii")
    assert cases(files, channels=2) == {"f1_x": files[:2], "f2_x": files[2:]}


def test_channels_from_two_folders_are_one_case(write):
    files = write("t1/x_0000.nii", "t2/x_0001.nii")
    assert cases(files, channels=2) == {"x": files}


def test_two_folders_with_the_same_names(write, tmp_path):
    write("f1/x.nii", "f1/y.nii", "f2/x.nii")
    assert set(cases([tmp_path / "f1", tmp_path / "f2"])) == {"f1_x", "f2_x", "y"}
    write("g1/s1/ct.nii", "g2/s1/ct.nii")
    assert set(cases([tmp_path / "g1", tmp_path / "g2"])) == {"g1_s1", "g2_s1"}


def test_two_series_of_one_name(tmp_path):
    for day in ("day1", "day2"):
        write_dicom_series(tmp_path / day / "ct_0001", smooth_scan((3, 8, 8)))
    series = [tmp_path / "day1" / "ct_0001", tmp_path / "day2" / "ct_0001"]
    found = {name: [one.folder for one in files] for name, files in cases(series, channels=2).items()}
    assert found == {"day1_ct_0001": [series[0]], "day2_ct_0001": [series[1]]}


def test_a_series_and_an_image_of_one_name(write, tmp_path):
    """Their labels would be one file: neither is segmented, and both are named, without anything of the header."""
    write_dicom_series(tmp_path / "day1" / "ct", smooth_scan((3, 8, 8)))
    (image,) = write("day1/ct.nii")
    found = join_channels(scans_named([tmp_path / "day1" / "ct", image]), 1)
    (case,) = found
    ct = tmp_path / "day1" / "ct"
    assert case.problem == f"ct: {ct} (series 1) and {image} are the same image by name; keep one of them."


def test_what_cannot_be_told_apart_is_a_problem_that_names_both(write):
    first, second = write("a/f/x.nii", "b/f/x.nii")
    (case,) = join_channels(scans_named([first, second]), 1)
    assert case.problem == f"f_x: {first} and {second} are the same image by name; keep one of them."


def test_dicom_beside_other_scans_is_named(write, tmp_path):
    write("scans/a.nii.gz", "scans/notes.txt")
    assert dicom_left_out([tmp_path / "scans"]) == []
    (slice_, *_) = write_dicom_series(tmp_path / "scans" / "ct" / "series", smooth_scan((3, 8, 8)))
    (sentence,) = dicom_left_out([tmp_path / "scans"])
    assert (
        f"the DICOM files in {slice_.parent} are not segmented" in sentence and "give these folders to -i" in sentence
    )
    assert dicom_left_out([tmp_path / "scans", slice_.parent]) == []
    slice_.rename(tmp_path / "scans" / "without_suffix")
    assert any("move them to a folder of their own" in sentence for sentence in dicom_left_out([tmp_path / "scans"]))
    assert dicom_left_out([slice_.parent]) == []
