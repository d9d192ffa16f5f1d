"""Convert between SimpleITK images in memory and scans or label maps.

SimpleITK's points are LPS millimetres; its direction matrix has the unit vectors of the voxel axes x, y, z as columns.
"""

import numpy as np
import SimpleITK

from stunet.errors import FileError
from stunet.imaging.volume import Volume, real_voxels

SitkImage = SimpleITK.Image

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def volume_of(image: SitkImage, name: str = "the SimpleITK image") -> Volume:
    """See `Volume.from_sitk`."""
    if not isinstance(image, SitkImage):
        raise FileError(f"A SimpleITK image is needed, not {type(image).__name__}.")
    if image.GetDimension() != 3:
        raise FileError(f"{name}: is a {image.GetDimension()}D image, but a 3D scan is needed.")
    numbers = image.GetNumberOfComponentsPerPixel()
    if numbers != 1:
        raise FileError(f"{name}: has {numbers} numbers per voxel; give a list with one image per channel.")
    voxels_ZYX = real_voxels(SimpleITK.GetArrayFromImage(image), name)
    x, y, z = image.GetSpacing()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * (x, y, z)
    affine[:3, 3] = image.GetOrigin()
    return Volume(voxels_ZYX[None], _LPS_TO_RAS @ affine, source=name, stated_spacing=(z, y, x))


def labels_as_sitk(labels_ZYX: np.ndarray, like: Volume) -> SitkImage:
    """See `stunet.inference.segmentation.Segmentation.to_sitk`."""
    image = SimpleITK.GetImageFromArray(labels_ZYX)
    affine = _LPS_TO_RAS @ like.affine
    z, y, x = like.spacing
    image.SetSpacing((x, y, z))
    image.SetDirection((affine[:3, :3] / (x, y, z)).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image
