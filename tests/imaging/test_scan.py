import nibabel
import numpy as np
import pytest
import SimpleITK
import torch

from stunet.errors import UserError
from stunet.imaging.scan import as_volume
from stunet.imaging.volume import Volume
from tests.phantoms import smooth_scan

ARRAY = smooth_scan((4, 5, 6))


def test_one_scan_in_every_form(tmp_path):
    image = nibabel.Nifti1Image(ARRAY.T, np.diag([-0.8, -0.8, 2.5, 1.0]))
    nibabel.save(image, tmp_path / "scan.nii.gz")
    in_sitk = SimpleITK.GetImageFromArray(ARRAY)
    in_sitk.SetSpacing((0.8, 0.8, 2.5))
    volume = Volume.from_array(ARRAY, spacing=(2.5, 0.8, 0.8))
    for scan in (str(tmp_path / "scan.nii.gz"), tmp_path / "scan.nii.gz", image, in_sitk, volume):
        read = as_volume(scan)
        np.testing.assert_array_equal(read.array, volume.array)
        np.testing.assert_allclose(read.affine, volume.affine, rtol=1e-6)
    assert as_volume([tmp_path / "scan.nii.gz", image, in_sitk, volume]).array.shape == (4, 4, 5, 6)


@pytest.mark.parametrize(
    ("scan", "sentence"),
    [
        (ARRAY, "array alone does not say where"),
        (torch.zeros(3, 4, 5), "array alone does not say where"),
        (None, "not NoneType"),
        (3, "not int"),
        ({"a": 1}, "not dict"),
        (b"scan.nii", "not bytes"),
        ([], "list of channels is empty"),
        ([ARRAY], "array alone"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_scan(scan, sentence):
    with pytest.raises(UserError, match=sentence):
        as_volume(scan)
