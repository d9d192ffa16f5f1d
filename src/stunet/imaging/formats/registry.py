"""Readers and writers of image formats by file suffix. A new format adds one line here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from stunet.errors import FileError
from stunet.imaging.formats.dicom.find import is_dicom_file
from stunet.imaging.formats.dicom_results import DICOM_KINDS
from stunet.imaging.formats.itk import read_itk, write_itk_labels
from stunet.imaging.formats.mgh import read_mgh
from stunet.imaging.formats.nifti import read_nifti, read_nifti_pair
from stunet.imaging.formats.nifti_write import write_nifti_labels
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
"""Lowercase suffix -> reader. A folder is read as one DICOM series."""

WRITERS: dict[str, Writer] = {
    **dict.fromkeys((".nii", ".nii.gz"), write_nifti_labels),
    **dict.fromkeys((".nrrd", ".mha"), write_itk_labels),
    ".seg.nrrd": write_slicer_segmentation,
}
"""Lowercase suffix -> writer of label maps."""

RESULT_SUFFIXES = (*WRITERS, *DICOM_KINDS)
"""Allowed suffixes of results, in lowercase."""

SUFFIXES = tuple(suffix for suffix in READERS if ".img" not in suffix)
"""Suffixes of scans and label maps, in lowercase. Of a pair in a folder, only the header counts."""

MAX_LABEL = 65535
"""Largest label in a label map."""

LABEL_ROUNDING = 1e-6
"""Values within this relative distance of an integer are that label: float32 rounds slopes of 1."""


def read_volume(path: str | Path | Sequence[str | Path], modality: str | None = None) -> Volume:
    """Read a scan.

    Args:
        path: A file that ends in one of `READERS`, in upper or lower case; a folder, a zip or a file with DICOM, of
            which the only or clearly best series is read (`stunet.imaging.formats.dicom.choose`); or a sequence of
            these, which become the channels of one volume.
        modality: For a folder with DICOM series of several modalities: "CT", "MR", "PET", or the model's channel name.

    Returns:
        Volume with array (C, Z, Y, X). Its voxels may be NaN, which `preprocess` refuses. Its `warnings` describe
        guesses.

    Raises:
        UserError: The input is missing, damaged or not a 3D scan. The message names file and reason.
    """
    if not isinstance(path, str | Path):
        return stack_channels([read_volume(one) for one in path])
    path = Path(path)
    if not path.exists():
        raise FileError(f"{path}: no such file or folder.")
    if path.is_dir() or (not has_suffix(path, READERS) and is_dicom_file(path)):
        from stunet.imaging.formats.dicom.choose import read_dicom  # imported late: it takes as long to load as a scan

        return read_dicom(path, modality)
    return _entry(READERS, path, "read")(path)


def read_labels(path: str | Path) -> Volume:
    """Read a label map.

    Args:
        path: As for `read_volume`. The voxels are integers from 0 to `MAX_LABEL`, in any type, or scaled numbers within
            `LABEL_ROUNDING` of these.

    Returns:
        Volume with array (1, Z, Y, X) of uint8 if all labels fit, else uint16.

    Raises:
        UserError: A voxel is not such an integer, or as for `read_volume`.
    """
    volume = read_volume(path)
    array = volume.array
    whole = np.rint(array) if array.dtype.kind == "f" else array
    low, high = whole.min(), whole.max()
    if low < 0 or high > MAX_LABEL or low != low:
        raise FileError(f"{volume.source}: has values from {low:g} to {high:g}, but labels are 0 to {MAX_LABEL}.")
    if whole is not array and not np.allclose(array, whole, rtol=LABEL_ROUNDING, atol=LABEL_ROUNDING):
        raise FileError(f"{volume.source}: has fractions, but a label map has integers; is this the image?")
    return replace(volume, array=whole.astype(np.uint8 if high < 256 else np.uint16, copy=False))


def has_suffix(path: Path, suffixes: Iterable[str] = SUFFIXES) -> bool:
    """Whether a file's name ends in one of these suffixes, in upper or lower case.

    >>> has_suffix(Path("LIVER.NII.GZ")), has_suffix(Path("notes.txt"))
    (True, False)
    """
    return path.name.lower().endswith(tuple(suffixes))


def is_image_file(path: Path) -> bool:
    """Whether a name is that of an image: it has a suffix in `READERS`, in upper or lower case, and is not hidden.

    >>> print(*(is_image_file(Path(name)) for name in ("a.nii", "B.NII.GZ", "._a.nii", "a.txt")))
    True True False False
    """
    return not path.name.startswith(".") and has_suffix(path)


def without_suffix(path: Path) -> str:
    """The name of a scan or label map without the suffix of its format.

    >>> without_suffix(Path("out/liver.nii.gz")), without_suffix(Path("A.NII"))
    ('liver', 'A')
    >>> without_suffix(Path("out/LIVER.seg.nrrd"))
    'LIVER'
    """
    suffix = _suffix_in((*READERS, *RESULT_SUFFIXES), path)
    return path.name[: len(path.name) - len(suffix)]


def write_labels(
    labels_ZYX: np.ndarray, like: Volume, path: str | Path, names: Mapping[int, str] | None = None
) -> None:
    """Write a label map on exactly the grid of a scan.

    Args:
        labels_ZYX: (Z, Y, X) uint8 or uint16, on the grid of `like`.
        like: The scan. A NIfTI file copies a NIfTI scan's geometry byte for byte.
        path: Ends in one of `WRITERS`. It appears only when complete.
        names: Label -> structure name, stored in NIfTI and `.seg.nrrd` files.

    Raises:
        UserError: The suffix is unknown, or the file cannot be written.
        ValueError: The labels do not fit the grid.
    """
    _entry(WRITERS, Path(path), "written")(labels_ZYX, like, Path(path), names)


def _entry(table: Mapping[str, Function], path: Path, act: str) -> Function:
    """Find the function for a file by the longest matching suffix."""
    suffix = _suffix_in(table, path)
    if suffix:
        return table[suffix]
    known = ", ".join(table)
    hint = "; for DICOM give the folder of one series" if act == "read" else ""
    raise FileError(f"{path}: this kind of file cannot be {act} (known: {known}){hint}.")


def _suffix_in(table: Iterable[str], path: Path) -> str:
    """The longest suffix of a table that a name ends in, in upper or lower case; empty if there is none."""
    return max((suffix for suffix in table if path.name.lower().endswith(suffix)), key=len, default="")
