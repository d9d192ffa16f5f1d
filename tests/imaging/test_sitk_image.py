"""Images of SimpleITK in memory give what SimpleITK says of their voxels, and labels lie on the scan."""

import itertools

import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from stunet.errors import UserError
from stunet.imaging.affine import voxel_to_world
from stunet.imaging.formats.registry import read_volume
from stunet.imaging.formats.sitk_image import labels_as_sitk
from stunet.imaging.volume import Volume
from tests.phantoms import smooth_scan


def image_of(signs=(1, 1, 1), degrees=0.0):
    image = SimpleITK.GetImageFromArray(smooth_scan((4, 5, 6)))
    turn = Rotation.from_euler("xyz", [degrees, -degrees / 2, degrees / 3], degrees=True).as_matrix()
    image.SetDirection((turn @ np.diag(signs)).ravel().tolist())
    image.SetSpacing((0.7, 0.9, 2.5))
    image.SetOrigin((-120.5, 33.0, 801.25))
    return image


@pytest.mark.parametrize("degrees", [0.0, 20.0])
@pytest.mark.parametrize("signs", list(itertools.product((1.0, -1.0), repeat=3)))
def test_voxels_lie_where_simpleitk_says(signs, degrees):
    image = image_of(signs, degrees)
    volume = Volume.from_sitk(image)
    assert volume.spacing == (2.5, 0.9, 0.7) and volume.array.dtype == np.int16
    for index in ((0, 0, 0), (5, 4, 3), (1, 2, 0)):
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(voxel_to_world(volume.affine, index), (-x, -y, z), atol=1e-9)
        assert volume.array[0][index[::-1]] == image.GetPixel(index)
    labels = labels_as_sitk((volume.array[0] > 0).astype(np.uint8), volume)
    assert labels.GetSpacing() == image.GetSpacing() and labels.GetOrigin() == image.GetOrigin()
    np.testing.assert_allclose(labels.GetDirection(), image.GetDirection(), atol=1e-12)
    SimpleITK.Mask(image, labels)  # refuses images on different grids


def test_real_scans(shared_data):
    path = next((shared_data / "Dataset004_Hippocampus" / "imagesTr").glob("*.nii.gz"))
    from_image, from_file = Volume.from_sitk(SimpleITK.ReadImage(str(path))), read_volume(path)
    np.testing.assert_array_equal(from_image.array, from_file.array)
    np.testing.assert_allclose(from_image.affine, from_file.affine, atol=1e-4)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (SimpleITK.Image(4, 5, SimpleITK.sitkInt16), "2D image"),
        (SimpleITK.Image([4, 5, 6, 2], SimpleITK.sitkInt16), "4D image"),
        (SimpleITK.Image([4, 5, 6], SimpleITK.sitkVectorFloat32, 3), "3 numbers per voxel"),
        (SimpleITK.Image([4, 5, 6], SimpleITK.sitkComplexFloat32), "real numbers"),
        (None, "A SimpleITK image is needed, not NoneType"),
    ],
)
def test_what_is_no_scan(image, sentence):
    with pytest.raises(UserError, match=sentence):
        Volume.from_sitk(image)
