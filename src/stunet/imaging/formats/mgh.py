"""Read FreeSurfer's `.mgh` and `.mgz` files with nibabel."""

import zlib
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np

from stunet.errors import FileError, UserError
from stunet.imaging.affine import orientation
from stunet.imaging.formats.claims import check_claim
from stunet.imaging.formats.nibabel_image import volume_of
from stunet.imaging.formats.nifti_stream import opened
from stunet.imaging.volume import Volume, check_size


def read_mgh(path: Path) -> Volume:
    """Read one 3D image.

    Args:
        path: A `.mgh` file, or a gzipped `.mgz` file.

    Returns:
        Volume with array (1, Z, Y, X).

    Raises:
        UserError: The file is damaged, or is not one real-valued 3D image.
    """
    with opened(path) as stream:
        start = stream.read(30)
    try:
        image = nibabel.MGHImage.from_filename(path)
        sizes, voxel_bytes = image.shape, image.header.get_data_dtype().itemsize
        if min(sizes) < 1:
            raise FileError(f"{path}: the header's dimensions {list(sizes)} are not a size; export the scan again.")
        check_size(sizes[2::-1], str(path))
        check_claim(int(np.prod(sizes, dtype=object)) * voxel_bytes, path, path.suffix.lower() == ".mgz")
        volume = replace(volume_of(image), source=str(path))
    except UserError:
        raise
    except (
        *(OSError, EOFError, ValueError, KeyError, TypeError, OverflowError, zlib.error),
        nibabel.freesurfer.mghformat.MGHError,
        nibabel.spatialimages.HeaderDataError,
        nibabel.filebasedimages.ImageFileError,
    ) as error:
        raise FileError(f"{path}: cannot be read; the file is damaged or cut off, copy or export it again.") from error
    if start[28:30] != bytes(2):  # goodRASFlag; nibabel replaces it if it is 0
        return volume
    warning = (
        f"{path}: the header does not say how the scan is oriented in the patient (goodRASFlag is 0), so left and "
        f"right are a guess: it is read as {orientation(volume.affine)}, as FreeSurfer reads it. Check the labels "
        "against the anatomy."
    )
    return replace(volume, warnings=(*volume.warnings, warning))
