"""The image formats: which function reads and writes which kind of file. A new format is one more line here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from stunet.errors import FileError
from stunet.imaging.formats.itk import read_itk, write_itk_labels
from stunet.imaging.formats.mgh import read_mgh
from stunet.imaging.formats.nifti import read_nifti, read_nifti_pair, write_nifti_labels
from stunet.imaging.formats.slicer import write_slicer_segmentation
from stunet.imaging.volume import Volume, stack_channels

Function = TypeVar("Function")

Reader = Callable[[Path], Volume]
Writer = Callable[[np.ndarray, Volume, Path, Mapping[int, str] | None], None]

READERS: dict[str, Reader] = {
    **dict.fromkeys((".nii", ".nii.gz"), read_nifti),
    **dict.fromkeys((".hdr", ".hdr.gz", ".img", ".img.gz"), read_nifti_pair),
    **dict.fromkeys((".nrrd", ".nhdr", ".mha", ".mhd"), read_itk),
    **dict.fromkeys((".mgz", ".mgh"), read_mgh),
}
"""Suffix, in small letters, to reader; a folder is read as one DICOM series."""

WRITERS: dict[str, Writer] = {
    **dict.fromkeys((".nii", ".nii.gz"), write_nifti_labels),
    **dict.fromkeys((".nrrd", ".mha"), write_itk_labels),
    ".seg.nrrd": write_slicer_segmentation,
}
"""Suffix, in small letters, to writer of label maps."""

SUFFIXES = tuple(suffix for suffix in READERS if ".img" not in suffix)
"""What the name of a scan or of a label map ends in, in small letters; of a pair in a folder, the header counts."""

MAX_LABEL = 65535
"""Largest label that a label map may hold."""

LABEL_ROUNDING = 1e-6
"""Numbers this close to a whole one, relative to it, are that label: float32 rounds slopes of 1."""


def read_volume(path: str | Path | Sequence[str | Path]) -> Volume:
    """Read a scan.

    Args:
        path: A file that ends in one of `READERS`, in whatever case, a folder with one DICOM series, or a sequence of
            these, which become the channels of one volume.

    Returns:
        Volume with array (C, Z, Y, X); its voxels may be NaN (`preprocess` refuses those). Its `warnings` say what had
        to be guessed.

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
        path: As for `read_volume`; the voxels are integers from 0 to `MAX_LABEL`, in whatever type, or scaled to
            numbers within `LABEL_ROUNDING` of these.

    Returns:
        Volume with array (1, Z, Y, X) of uint8 where all labels fit, else uint16.

    Raises:
        UserError: If a voxel is not such an integer, or as for `read_volume`.
    """
    volume = read_volume(path)
    array = volume.array
    whole = np.rint(array) if array.dtype.kind == "f" else array
    low, high = whole.min(), whole.max()
    if low < 0 or high > MAX_LABEL or low != low:
        raise FileError(f"{volume.source}: holds values from {low:g} to {high:g}, but labels are 0 to {MAX_LABEL}.")
    if whole is not array and not np.allclose(array, whole, rtol=LABEL_ROUNDING, atol=LABEL_ROUNDING):
        raise FileError(f"{volume.source}: holds fractions, but a label map has whole numbers; is this the image?")
    return replace(volume, array=whole.astype(np.uint8 if high < 256 else np.uint16, copy=False))


def has_suffix(path: Path, suffixes: Iterable[str] = SUFFIXES) -> bool:
    """Whether a file's name ends in one of these suffixes, in whatever case.

    >>> has_suffix(Path("LIVER.NII.GZ")), has_suffix(Path("notes.txt"))
    (True, False)
    """
    return path.name.lower().endswith(tuple(suffixes))


def is_image_file(path: Path) -> bool:
    """Whether a name is that of an image: a suffix of `READERS`, in capitals or not, and not hidden.

    >>> [is_image_file(Path(name)) for name in ("a.nii", "B.NII.GZ", "._a.nii", "a.txt")]
    [True, True, False, False]
    """
    return not path.name.startswith(".") and has_suffix(path)


def without_suffix(path: Path) -> str:
    """The name of a scan or of a label map, without what says its format.

    >>> without_suffix(Path("out/liver.nii.gz")), without_suffix(Path("A.NII"))
    ('liver', 'A')
    >>> without_suffix(Path("out/LIVER.seg.nrrd"))
    'LIVER'
    """
    suffix = _suffix_in({**READERS, **WRITERS}, path)
    return path.name[: len(path.name) - len(suffix)]


def write_labels(
    labels_ZYX: np.ndarray, like: Volume, path: str | Path, names: Mapping[int, str] | None = None
) -> None:
    """Write a label map on exactly the grid of a scan.

    Args:
        labels_ZYX: (Z, Y, X) uint8 or uint16, on the grid of `like`.
        like: The scan; a NIfTI file repeats a NIfTI scan's geometry to the byte.
        path: Ends in one of `WRITERS`. It appears only when complete.
        names: Label to structure name, kept in NIfTI and `.seg.nrrd` files.

    Raises:
        UserError: If the suffix is unknown or the file cannot be written.
        ValueError: If the labels do not fit the grid.
    """
    _entry(WRITERS, Path(path), "written")(labels_ZYX, like, Path(path), names)


def _entry(table: Mapping[str, Function], path: Path, act: str) -> Function:
    """Find the function for a file by the longest suffix that fits."""
    suffix = _suffix_in(table, path)
    if suffix:
        return table[suffix]
    known = ", ".join(table)
    hint = "; for DICOM give the folder of one series" if act == "read" else ""
    raise FileError(f"{path}: this kind of file cannot be {act} (known: {known}){hint}.")


def _suffix_in(table: Iterable[str], path: Path) -> str:
    """The longest suffix of a table in which a name ends, in whatever case; empty if there is none."""
    return max((suffix for suffix in table if path.name.lower().endswith(suffix)), key=len, default="")
