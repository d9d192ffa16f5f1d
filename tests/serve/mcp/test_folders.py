"""What is outside of the allowed folders stays there, whatever a path, a link or a header says."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from stunet.errors import UserError
from stunet.serve.mcp.folders import Folders


@pytest.fixture
def places(tmp_path):
    """An allowed folder and a secret beside it."""
    for name in ("scans", "scans2", "secret"):
        (tmp_path / name).mkdir()
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / name / "ct.nii.gz")
    return tmp_path


@pytest.fixture
def folders(places):
    return Folders([places / "scans", places / "scans2"])


@pytest.mark.parametrize("path", ["ct.nii.gz", "./ct.nii.gz", "../scans2/ct.nii.gz", "{places}/scans2/ct.nii.gz"])
def test_inside(places, folders, path):
    found = folders.scan(path.format(places=places))
    assert found.is_file() and found.parent.name == ("scans2" if "scans2" in path else "scans")


@pytest.mark.parametrize("path", ["../secret/ct.nii.gz", "{places}/secret/ct.nii.gz", "/etc/passwd", "..", "", "a\0b"])
def test_outside(places, folders, path):
    for use in (folders.scan, folders.new_file, folders.whole):
        with pytest.raises(UserError, match=r"lies outside of the folders|The path is empty or damaged"):
            use(path.format(places=places))


def test_links_count_as_what_they_lead_to(places, folders):
    (places / "scans" / "link.nii.gz").symlink_to(places / "secret" / "ct.nii.gz")
    (places / "scans" / "out").symlink_to(places / "secret")
    for path in ("link.nii.gz", "out/ct.nii.gz", "out"):
        with pytest.raises(UserError, match="lies outside"):
            folders.scan(path)
    with pytest.raises(UserError, match="lies outside"):
        folders.new_file("out/labels.nii.gz")
    (places / "scans" / "near.nii.gz").symlink_to(places / "scans2" / "ct.nii.gz")
    assert folders.scan("near.nii.gz").parent.name == "scans2"


def test_a_link_deep_in_a_folder_of_dicom(places, folders):
    study = places / "scans" / "study" / "series"
    study.mkdir(parents=True)
    assert folders.scan("study").is_dir()
    (study / "1.dcm").symlink_to(places / "secret" / "ct.nii.gz")
    with pytest.raises(UserError, match="holds a link that leads out"):
        folders.scan("study")


def test_headers_that_name_another_file(places, folders):
    SimpleITK.WriteImage(SimpleITK.Image(4, 5, 6, SimpleITK.sitkInt16), str(places / "scans" / "pair.mhd"))
    with pytest.raises(UserError, match="is in two files"):
        folders.scan("pair.mhd")
    header = (places / "scans" / "pair.mhd").read_text().replace("pair.", "../secret/ct.")
    (places / "scans" / "sly.mha").write_text(header)
    with pytest.raises(UserError, match="voxels are in another file"):
        folders.scan("sly.mha")


def test_nothing_is_overwritten(places, folders):
    with pytest.raises(UserError, match="nothing is overwritten"):
        folders.new_file("ct.nii.gz")
    assert folders.new_file("new/labels.nii.gz") == places.resolve() / "scans" / "new" / "labels.nii.gz"


def test_a_folder_that_is_not_there(places):
    with pytest.raises(UserError, match="there is no such folder"):
        Folders([Path(places / "lost")])


def test_the_whole_disk_is_not_opened(places, monkeypatch):
    monkeypatch.chdir("/")  # where desktops start programs
    for folder in (Path("/"), Path(), places / ".." / ".." / ".." / ".." / ".." / ".."):
        with pytest.raises(UserError, match="is the whole disk; give --folder"):
            Folders([folder])
