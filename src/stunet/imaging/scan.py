"""Turn any kind of scan into a volume: a path, an image of another library, or a list with one per channel."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union, cast

import numpy as np

from stunet.errors import FileError
from stunet.imaging.formats.registry import read_volume
from stunet.imaging.volume import Volume, stack_channels

if TYPE_CHECKING:
    import nibabel
    import SimpleITK

    from stunet.imaging.formats.dicom.series import Series

OneScan: TypeAlias = Union[
    str, os.PathLike[str], Volume, "Series", "nibabel.spatialimages.SpatialImage", "SimpleITK.Image"
]
"""A file, a folder or zip with DICOM, a DICOM series, a volume, or a nibabel or SimpleITK image."""

Scan: TypeAlias = OneScan | Sequence[OneScan]
"""A scan, or a list with one scan per channel, all on one grid."""


def as_volume(scan: Any, modality: str | None = None) -> Volume:
    """Read a scan, or take it from memory.

    Args:
        scan: see `Scan`; anything else is refused.
        modality: as for `read_volume`.

    Raises:
        UserError: the object is not a scan, or as for `read_volume`, `Volume.from_nibabel` and `Volume.from_sitk`.
    """
    if isinstance(scan, list | tuple):
        return _stacked(scan)
    if isinstance(scan, Volume):
        return scan
    if isinstance(scan, str | os.PathLike):
        return read_volume(Path(scan), modality)
    if _is_image(scan, "stunet.imaging.formats.dicom.series", "Series"):
        return cast("Series", scan).read()
    if _is_image(scan, "nibabel.spatialimages", "SpatialImage"):
        return Volume.from_nibabel(scan)
    if _is_image(scan, "SimpleITK", "Image"):
        return Volume.from_sitk(scan)
    raise FileError(_refusal(scan))


def _stacked(channels: Sequence[Any]) -> Volume:
    if not channels:
        raise FileError("The list of channels is empty; give one scan for each channel of the model.")
    return stack_channels([as_volume(channel) for channel in channels])


def _is_image(scan: Any, module: str, name: str) -> bool:
    """Whether it is of this class, without importing the library: if it was not imported, this cannot be its image."""
    return module in sys.modules and isinstance(scan, getattr(sys.modules[module], name))


def _refusal(scan: object) -> str:
    """Why this is not a scan, and what to give instead."""
    if isinstance(scan, np.ndarray) or type(scan).__module__.partition(".")[0] == "torch":
        return (
            "An array alone does not say where its voxels lie in the patient; give "
            "Volume.from_array(array, affine) or Volume.from_array(array, spacing=(z, y, x))."
        )
    return (
        f"A scan is a path, a Volume, a DICOM series, an image of nibabel or SimpleITK, or a list of these with one "
        f"for each channel, not {type(scan).__name__}."
    )
