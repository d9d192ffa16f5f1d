"""NIfTI out: against SimpleITK, nibabel and TotalSegmentator's reader, to the byte where that is promised."""

import gzip
from pathlib import Path
from xml.etree import ElementTree

import nibabel
import numpy as np
import pytest
import SimpleITK

from stunet.errors import UserError
from stunet.imaging.formats.nifti import read_nifti
from stunet.imaging.formats.nifti_write import split_nifti_channels, write_nifti_image, write_nifti_labels
from stunet.imaging.volume import Volume
from tests.phantoms import itk_affine, rotated_affine, smooth_scan

GEOMETRY_BYTES = {"pixdim": (76, 108), "xyzt_units": (123, 124), "qform, sform": (252, 328)}
"""Where NIfTI-1 keeps what places the voxels in the world."""


def load_as_totalsegmentator(path: Path) -> dict[int, str]:
    """Label names, found as TotalSegmentator's `load_multilabel_nifti` finds them: by nibabel's `get_content` alone."""
    root = ElementTree.fromstring(nibabel.load(path).header.extensions[0].get_content())
    return {int(label.get("Key")): label.text for label in root.findall("VolumeInformation/LabelTable/Label")}


@pytest.mark.parametrize("endianness", ["<", ">"])
def test_totalsegmentators_reader_finds_the_names(tmp_path: Path, endianness: str) -> None:
    header = nibabel.Nifti1Header(endianness=endianness)
    header.set_data_dtype(np.int16)
    nibabel.Nifti1Image(smooth_scan((4, 5, 6)).T, np.eye(4), header).to_filename(tmp_path / "scan.nii")
    names = {1: "liver", 2: "vein & artery", 104: "größe"}
    labels = np.ones((4, 5, 6), np.uint8)
    write_nifti_labels(labels, read_nifti(tmp_path / "scan.nii"), tmp_path / "labels.nii.gz", names)
    assert load_as_totalsegmentator(tmp_path / "labels.nii.gz") == names


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_labels_repeat_the_geometry_to_the_byte(tmp_path: Path, suffix: str) -> None:
    image = nibabel.Nifti1Image(smooth_scan((4, 5, 6)).transpose(2, 1, 0), None)
    image.set_qform(rotated_affine((0.7, 0.9, 2.5), 10), code=3)
    image.set_sform(rotated_affine((0.7, 0.9, 2.5), 20), code=4)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4:] = 7, 8, 9, 10
    nibabel.save(image, tmp_path / "scan.nii")
    volume = read_nifti(tmp_path / "scan.nii")
    labels = (np.abs(smooth_scan((4, 5, 6), seed=1)) % 105).astype(np.uint8)
    write_nifti_labels(labels, volume, tmp_path / f"labels{suffix}", {1: "liver", 104: "<&> größe ]]>"})
    source = (tmp_path / "scan.nii").read_bytes()
    written = (tmp_path / f"labels{suffix}").read_bytes()
    written = gzip.decompress(written) if suffix == ".nii.gz" else written
    for name, (start, stop) in GEOMETRY_BYTES.items():
        assert source[start:stop] == written[start:stop], name
    again = read_nifti(tmp_path / f"labels{suffix}")
    np.testing.assert_array_equal(again.array[0], labels)
    np.testing.assert_array_equal(again.affine, volume.affine)
    assert again.array.dtype == np.uint8
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"labels{suffix}", "scan.nii"]


def test_other_programs_read_labels_and_names(tmp_path: Path) -> None:
    volume = Volume(smooth_scan((4, 5, 6))[None], rotated_affine((0.7, 0.9, 2.5)))
    labels = np.arange(120, dtype=np.uint16).reshape(4, 5, 6) * 3
    write_nifti_labels(labels, volume, tmp_path / "labels.nii.gz", {1: "liver", 300: "vein & artery"})
    image = SimpleITK.ReadImage(str(tmp_path / "labels.nii.gz"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), labels)
    np.testing.assert_allclose(itk_affine(image), volume.affine, atol=1e-4)
    extension = nibabel.load(tmp_path / "labels.nii.gz").header.extensions[0]
    assert b'<Label Key="1"' in extension.content
    assert b"<![CDATA[vein & artery]]></Label>" in extension.content


def test_wide_types_shrink_when_labels_fit(tmp_path: Path) -> None:
    volume = Volume(smooth_scan((2, 2, 2))[None], np.eye(4))
    write_nifti_labels(np.full((2, 2, 2), 255, np.int64), volume, tmp_path / "labels.nii")
    assert read_nifti(tmp_path / "labels.nii").array.dtype == np.uint8
    for wrong in (
        np.full((2, 2, 2), 65536),
        np.full((2, 2, 2), -1),
        np.zeros((2, 2, 2)),
        np.zeros((2, 2, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match="labels"):
            write_nifti_labels(wrong, volume, tmp_path / "wrong.nii")
    assert not (tmp_path / "wrong.nii").exists()


def test_nothing_is_left_where_writing_fails(tmp_path: Path) -> None:
    volume = Volume(smooth_scan((2, 2, 2))[None], np.eye(4))
    with pytest.raises(UserError, match="cannot be written"):
        write_nifti_labels(np.zeros((2, 2, 2), np.uint8), volume, tmp_path / "no such folder" / "labels.nii")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_nifti_labels(np.zeros((2, 2, 2), np.uint8), volume, tmp_path / "folder.nii")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.nii"]


def four_channels(path: Path, dtype: str = "int16", slope: float | None = None) -> Path:
    """A 4D file of four phantoms."""
    array = np.stack([smooth_scan((7, 6, 5), seed) for seed in range(4)]).astype(dtype)
    image = nibabel.Nifti1Image(array.transpose(3, 2, 1, 0), rotated_affine((0.7, 0.9, 2.5)))
    image.header.set_slope_inter(slope, None if slope is None else 0)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
def test_channels_of_a_4d_file_are_what_nibabel_cuts(tmp_path: Path, name: str, dtype: str) -> None:
    path = four_channels(tmp_path / name, dtype, slope=0.5)
    places = [tmp_path / f"channel_{channel}.nii.gz" for channel in range(4)]
    split_nifti_channels(path, places)
    for expected, place in zip(nibabel.four_to_three(nibabel.load(path)), places, strict=True):
        written = nibabel.load(place)
        assert written.shape == (5, 6, 7) and written.get_data_dtype() == dtype
        np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(expected.dataobj))
        np.testing.assert_array_equal(written.affine, expected.affine)
        np.testing.assert_array_equal(
            SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(place))), read_nifti(place).array[0]
        )


def test_a_4d_file_with_other_channels_or_an_early_end(tmp_path: Path) -> None:
    path = four_channels(tmp_path / "image.nii")
    with pytest.raises(UserError, match="has 4 channels, but 2 are expected"):
        split_nifti_channels(path, [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"])
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="cannot hold them"):
        split_nifti_channels(path, [tmp_path / f"{n}.nii.gz" for n in range(4)])
    assert [p.name for p in tmp_path.iterdir()] == ["image.nii"]


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_an_image_comes_back(tmp_path: Path, dtype: str) -> None:
    array = smooth_scan((7, 6, 5)).astype(dtype)
    volume = Volume(array[None], rotated_affine((0.7, 0.9, 2.5)))
    write_nifti_image(array, volume, tmp_path / "image.nii.gz")
    image = nibabel.load(tmp_path / "image.nii.gz")
    assert image.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(), array)
    np.testing.assert_allclose(image.affine, volume.affine, rtol=1e-6)
