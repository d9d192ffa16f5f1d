"""Convert between nibabel images in memory and scans or label maps."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np

from stunet.errors import FileError
from stunet.imaging.formats.nifti import nifti_volume
from stunet.imaging.formats.nifti_write import write_nifti_labels
from stunet.imaging.volume import Volume, real_voxels

SpatialImage = nibabel.spatialimages.SpatialImage
NiftiImage = nibabel.Nifti1Image


def volume_of(image: SpatialImage) -> Volume:
    """See `Volume.from_nibabel`."""
    if not isinstance(image, SpatialImage):
        raise FileError(f"A nibabel image is needed, not {type(image).__name__}.")
    name = image.get_filename() or "the nibabel image"
    voxels_xyz = real_voxels(_voxels(image, name), name)
    return nifti_volume(voxels_xyz, _header_of(image, voxels_xyz, name), name)


def labels_as_nibabel(labels_ZYX: np.ndarray, like: Volume, names: Mapping[int, str]) -> NiftiImage:
    """See `stunet.inference.segmentation.Segmentation.to_nibabel`."""
    with TemporaryDirectory() as folder:  # so that the image's header equals that of a file, to the byte
        path = Path(folder) / "labels.nii"
        write_nifti_labels(labels_ZYX, like, path, names)
        written = nibabel.load(path)
        assert isinstance(written, NiftiImage)
        return type(written)(labels_ZYX.T, written.affine, written.header)


def _voxels(image: SpatialImage, name: str) -> np.ndarray:
    """The scaled voxels, which nibabel may read only at this point."""
    try:
        return np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise FileError(f"{name}: cannot be read ({error}); copy or export it again.") from error


def _header_of(image: SpatialImage, voxels_xyz: np.ndarray, name: str) -> nibabel.Nifti1Header:
    """The header that nibabel would write into a NIfTI file of this image. If its affine differs, the image's wins."""
    stored = image.header
    kind = nibabel.Nifti2Header if isinstance(stored, nibabel.Nifti2Header) else nibabel.Nifti1Header
    header = kind()
    if isinstance(stored, nibabel.Nifti1Header):
        header = kind(stored.binaryblock, endianness=stored.endianness, check=False)
        header["magic"] = kind.single_magic  # it differs for a pair of files
    header.set_data_dtype(voxels_xyz.dtype)
    header.set_data_shape(voxels_xyz.shape)
    affine = header.get_best_affine() if image.affine is None else image.affine
    if not np.isfinite(affine).all() or not np.linalg.det(affine[:3, :3]):
        raise FileError(f"{name}: the affine is not finite, or singular; correct it, or export the scan again.")
    if not isinstance(stored, nibabel.Nifti1Header) or not np.allclose(affine, header.get_best_affine()):
        header.set_qform(affine, code="unknown")  # also sets pixdim
        header.set_sform(affine, code="aligned")
    return header
