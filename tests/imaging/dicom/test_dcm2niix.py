"""Against dcm2niix, where it is installed: place within 0.01 mm and equal values, of all that both read."""

import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest

from stunet.imaging.affine import farthest_corner
from stunet.imaging.formats.dicom.found import find_series
from stunet.imaging.volume import Volume
from tests.imaging.dicom.test_wild import RIGHT

needs_dcm2niix = pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")

NOT_READ_BY_DCM2NIIX = {"dicom_wild/gzipped_files", "dicom_wild/zipped"}

REAL = ("totalseg_example/ct_dicom", "bad_inputs/dicom_good_shuffled_names")


def converted(folder: Path, output: Path) -> list[nibabel.Nifti1Image]:
    """The 3D images that dcm2niix makes of a folder, time points taken apart."""
    command = ["dcm2niix", "-o", str(output), "-z", "n", "-b", "n", "-p", "n", "-f", "%s_%u", str(folder)]
    subprocess.run(command, check=False, capture_output=True)
    images = [nibabel.load(path) for path in sorted(output.glob("*.nii"))]
    images = [image for image in images if image.get_data_dtype().names is None]
    return [part for image in images for part in (nibabel.four_to_three(image) if image.ndim == 4 else [image])]


def canonical(array_XYZ: np.ndarray, affine: np.ndarray) -> nibabel.Nifti1Image:
    return nibabel.as_closest_canonical(nibabel.Nifti1Image(array_XYZ.astype(np.float32), affine))


def has_equal(volume: Volume, images: list[nibabel.Nifti1Image]) -> bool:
    ours = canonical(volume.array[0].T, volume.affine)
    for image in images:
        other = canonical(np.asarray(image.dataobj), image.affine)
        if other.shape != ours.shape:
            continue
        distance = farthest_corner(ours.affine, other.affine, ours.shape[::-1])
        if distance < 0.01 and np.allclose(ours.dataobj, other.dataobj, rtol=1e-6, atol=1e-3):
            return True
    return False


@needs_dcm2niix
@pytest.mark.parametrize("folder", sorted({*RIGHT, *REAL} - NOT_READ_BY_DCM2NIIX))
def test_place_and_values_are_dcm2niixs(shared_data: Path, tmp_path: Path, folder: str) -> None:
    images = converted(shared_data / folder, tmp_path)
    found = find_series(shared_data / folder)
    regular = [one for one in found.series if not one.refusal and one.stack.is_regular]
    for series in regular:
        assert has_equal(series.read(), images), f"{folder}: {series.name}"
    if not regular:
        assert all(one.refusal or one.remarks for one in found.series)


@needs_dcm2niix
@pytest.mark.parametrize(
    "folder", ["dicom_wild/gantry_tilt_real_siemens", "dicom_samples/philips_phantom_tilt_multiseries"]
)
def test_a_tilt_is_undone_as_dcm2niix_does(shared_data: Path, tmp_path: Path, folder: str) -> None:
    """Its grid is ours; its values are from the nearest or the two nearest pixels, so only alike."""
    (series,) = find_series(shared_data / folder).series
    volume = series.read()
    ours = canonical(volume.array[0].T, volume.affine)
    images = [canonical(np.asarray(image.dataobj), image.affine) for image in converted(shared_data / folder, tmp_path)]
    alike = [
        np.corrcoef(np.ravel(ours.dataobj), np.ravel(other.dataobj))[0, 1]
        for other in images
        if other.shape == ours.shape and farthest_corner(ours.affine, other.affine, ours.shape[::-1]) < 0.01
    ]
    assert alike and max(alike) > 0.999


@needs_dcm2niix
def test_most_folders_are_read_by_both(shared_data: Path) -> None:
    """So that the comparison is of more than nothing."""
    read = [
        folder
        for folder in {*RIGHT, *REAL} - NOT_READ_BY_DCM2NIIX
        if any(not one.refusal and one.stack.is_regular for one in find_series(shared_data / folder).series)
    ]
    assert len(read) >= 12
