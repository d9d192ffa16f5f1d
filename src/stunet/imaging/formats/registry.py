"""The image formats: which function reads and writes which kind of file. A new format is one more line here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from stunet.errors import FileError
from stunet.imaging.formats.nifti import read_nifti, write_nifti_labels
from stunet.imaging.volume import Volume, stack_channels

Function = TypeVar("Function")

READERS: dict[str, Callable[[Path], Volume]] = {".nii": read_nifti, ".nii.gz": read_nifti}
"""Suffix to reader; a folder is read as one DICOM series."""

SUFFIXES = tuple(READERS)
"""What the name of a scan or of a label map ends in."""

WRITERS: dict[str, Callable[[np.ndarray, Volume, Path, Mapping[int, str] | None], None]] = {
    ".nii": write_nifti_labels,
    ".nii.gz": write_nifti_labels,
}
"""Suffix to writer of label maps."""

MAX_LABEL = 65535
"""Largest label that a label map may hold."""


def read_volume(path: str | Path | Sequence[str | Path]) -> Volume:
    """Read a scan.

    Args:
        path: A `.nii` or `.nii.gz` file, a folder with one DICOM series, or a sequence of these, which become the
            channels of one volume.

    Returns:
        Volume with array (C, Z, Y, X); its voxels may be NaN (`preprocess` refuses those).

    Raises:
        UserError: If anything about the input is missing, damaged or not a 3D scan; names file and reason.
    """
    if not isinstance(path, str | Path):
        return stack_channels([read_volume(one) for one in path])
    path = Path(path)
    if path.is_dir():
        from stunet.imaging.formats.dicom import read_dicom_series  # its libraries take as long to load as a scan

        return read_dicom_series(path)
    if not path.exists():
        raise FileError(f"{path}: no such file or folder.")
    return _entry(READERS, path, "read")(path)


def read_labels(path: str | Path) -> Volume:
    """Read a label map.

    Args:
        path: A `.nii` or `.nii.gz` file whose voxels are integers from 0 to `MAX_LABEL`, in whatever type.

    Returns:
        Volume with array (1, Z, Y, X) of uint8 where all labels fit, else uint16.

    Raises:
        UserError: If a voxel is not such an integer, or as for `read_volume`.
    """
    volume = read_volume(path)
    low, high = volume.array.min(), volume.array.max()
    if low < 0 or high > MAX_LABEL or low != low:
        raise FileError(f"{volume.source}: holds values from {low:g} to {high:g}, but labels are 0 to {MAX_LABEL}.")
    labels = volume.array.astype(np.uint8 if high < 256 else np.uint16, copy=False)
    if volume.array.dtype.kind == "f" and (labels != volume.array).any():
        raise FileError(f"{volume.source}: holds fractions, but a label map has whole numbers; is this the image?")
    return replace(volume, array=labels)


def is_image_file(path: Path) -> bool:
    """Whether a name is that of an image: a suffix of `READERS`, in capitals or not, and not hidden.

    >>> [is_image_file(Path(name)) for name in ("a.nii", "B.NII.GZ", "._a.nii", "a.txt")]
    [True, True, False, False]
    """
    return not path.name.startswith(".") and suffix_of(path) is not None


def suffix_of(path: Path) -> str | None:
    """Which suffix of `READERS` a name ends in, the longest; None if none. Capitals count for nothing."""
    name = path.name.lower()
    return max((suffix for suffix in READERS if name.endswith(suffix)), key=len, default=None)


def without_suffix(path: Path) -> str:
    """The name of a scan or of a label map, without what says its format.

    >>> without_suffix(Path("out/liver.nii.gz")), without_suffix(Path("A.NII"))
    ('liver', 'A')
    """
    suffix = suffix_of(path)
    return path.name if suffix is None else path.name[: -len(suffix)]


def write_labels(
    labels_ZYX: np.ndarray, like: Volume, path: str | Path, names: Mapping[int, str] | None = None
) -> None:
    """Write a label map on exactly the grid of a scan.

    Args:
        labels_ZYX: (Z, Y, X) uint8 or uint16, on the grid of `like`.
        like: The scan; a NIfTI's geometry is repeated to the byte.
        path: Ends in one of `WRITERS`. It appears only when complete.
        names: Label to structure name, kept in the file.

    Raises:
        UserError: If the suffix is unknown or the file cannot be written.
        ValueError: If the labels do not fit the grid.
    """
    _entry(WRITERS, Path(path), "written")(labels_ZYX, like, Path(path), names)


def _entry(table: Mapping[str, Function], path: Path, act: str) -> Function:
    """Find the function for a file by the longest suffix that fits."""
    for suffix in sorted(table, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return table[suffix]
    known = ", ".join(table)
    hint = "; for DICOM give the folder of one series" if act == "read" else ""
    raise FileError(f"{path}: this kind of file cannot be {act} (known: {known}){hint}.")
