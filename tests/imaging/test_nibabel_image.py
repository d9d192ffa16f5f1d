"""Images of nibabel in memory give what their files give, and labels as images are the files that are saved."""

import itertools

import nibabel
import numpy as np
import pytest

from stunet.errors import UserError
from stunet.imaging.affine import voxel_to_world
from stunet.imaging.formats.nibabel_image import labels_as_nibabel
from stunet.imaging.formats.registry import read_volume, write_labels
from stunet.imaging.volume import Volume
from tests.phantoms import rotated_affine, smooth_scan

SIGNS = list(itertools.product((1, -1), repeat=3))


def image_of(affine, kind=nibabel.Nifti1Image, dtype=np.int16):
    return kind(smooth_scan((4, 5, 6)).T.astype(dtype), affine)


def affine_towards(signs, oblique):
    base = rotated_affine((0.7, 0.9, 2.5)) if oblique else np.diag([0.7, 0.9, 2.5, 1.0])
    return base @ np.diag([*signs, 1.0])


def assert_same(volume, reference):
    np.testing.assert_array_equal(volume.array, reference.array)
    np.testing.assert_array_equal(volume.affine, reference.affine)
    assert volume.spacing == reference.spacing and volume.array.dtype == reference.array.dtype


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("signs", SIGNS)
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_an_image_gives_what_its_file_gives(tmp_path, kind, signs, oblique):
    image = image_of(affine_towards(signs, oblique), kind)
    nibabel.save(image, tmp_path / "scan.nii")
    volume = Volume.from_nibabel(image)
    assert_same(volume, read_volume(tmp_path / "scan.nii"))
    assert_same(Volume.from_nibabel(nibabel.load(tmp_path / "scan.nii")), volume)
    np.testing.assert_allclose(voxel_to_world(volume.affine, [1, 2, 3]), (image.affine @ [1, 2, 3, 1])[:3], rtol=1e-5)


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("signs", SIGNS)
@pytest.mark.parametrize("kind", [nibabel.MGHImage, nibabel.Nifti1Pair, nibabel.Spm2AnalyzeImage])
def test_other_formats_of_nibabel(kind, signs, oblique):
    image = image_of(affine_towards(signs, oblique), kind)
    volume = Volume.from_nibabel(image)
    np.testing.assert_array_equal(volume.array[0].T, np.asarray(image.dataobj))
    np.testing.assert_allclose(volume.affine, image.affine, rtol=1e-5, atol=1e-4)
    labels_as_nibabel(volume.array[0].astype(np.uint8), volume, {0: "background"})


def test_real_scans_with_scaling(shared_data):
    paths = (
        sorted((shared_data / "ct_samples").rglob("*.nii.gz"))[:2]
        + sorted((shared_data / "Dataset004_Hippocampus" / "imagesTr").glob("*.nii.gz"))[:2]
    )
    assert len(paths) >= 2
    for path in paths:
        assert_same(Volume.from_nibabel(nibabel.load(path)), read_volume(path))


def test_a_changed_affine_counts():
    header = image_of(np.eye(4)).header
    volume = Volume.from_nibabel(nibabel.Nifti1Image(np.zeros((6, 5, 4), np.int16), np.diag([2, 2, 3, 1]), header))
    assert volume.spacing == (3.0, 2.0, 2.0)


def test_units_are_those_of_the_header():
    image = image_of(np.diag([700.0, 900.0, 2500.0, 1.0]))
    image.header.set_xyzt_units("micron")
    np.testing.assert_allclose(Volume.from_nibabel(image).spacing, (2.5, 0.9, 0.7))


def image_with(value):
    """nibabel refuses such an affine when an image is made, but not when it is changed."""
    image = image_of(np.eye(4))
    image.affine[2, 2] = value
    return image


def complex_image():
    return nibabel.Nifti1Image(np.zeros((3, 4, 5), np.complex64), np.eye(4))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: nibabel.Nifti1Image(np.zeros((3, 4, 5, 2), np.int16), np.eye(4)), "more than one 3D image"),
        (lambda: nibabel.Nifti1Image(np.zeros((3, 4), np.int16), np.eye(4)), "2D image"),
        (complex_image, "real numbers, not complex64"),
        (lambda: image_with(np.nan), "affine is not finite"),
        (lambda: image_with(0), "singular"),
        (lambda: image_of(np.array([[1, 0, 0.3, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])), "sheared|contradicts"),
        (lambda: np.zeros((3, 4, 5)), "A nibabel image is needed, not ndarray"),
    ],
)
def test_what_a_file_may_not_be_an_image_may_not_be(make, sentence):
    with pytest.raises(UserError, match=sentence):
        Volume.from_nibabel(make())


def test_a_damaged_file_that_nibabel_opens_late(tmp_path):
    nibabel.save(nibabel.Nifti1Image(smooth_scan((20, 20, 20)), np.eye(4)), tmp_path / "scan.nii.gz")
    content = (tmp_path / "scan.nii.gz").read_bytes()
    (tmp_path / "scan.nii.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"scan\.nii\.gz: cannot be read"):
        Volume.from_nibabel(nibabel.load(tmp_path / "scan.nii.gz"))


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_labels_are_the_file_that_is_saved(tmp_path, kind):
    scan = Volume.from_nibabel(image_of(rotated_affine((0.7, 0.9, 2.5)), kind))
    labels, names = np.arange(120, dtype=np.uint8).reshape(4, 5, 6), {0: "background", 1: "liver"}
    image = labels_as_nibabel(labels, scan, names)
    write_labels(labels, scan, tmp_path / "labels.nii", names)
    saved = nibabel.load(tmp_path / "labels.nii")
    assert type(image) is type(saved) is kind
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(saved.dataobj))
    np.testing.assert_array_equal(image.affine, saved.affine)
    assert image.header.extensions == saved.header.extensions
    nibabel.save(image, tmp_path / "again.nii")
    again = nibabel.load(tmp_path / "again.nii")
    np.testing.assert_array_equal(np.asarray(again.dataobj).T, labels)
    for field in ("pixdim", "qform_code", "sform_code", "quatern_b", "srow_x", "srow_z", "xyzt_units"):
        assert again.header[field].tobytes() == saved.header[field].tobytes(), field
