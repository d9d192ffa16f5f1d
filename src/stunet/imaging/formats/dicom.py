"""One DICOM series in a folder becomes a volume.

Headers are read with pydicom, pixels with SimpleITK, whose GDCM decodes every common transfer syntax (JPEG, JPEG-LS,
JPEG 2000, RLE) and applies each slice's own rescale slope and intercept: CT comes in Hounsfield units, PET in the
units that the files state (mostly Bq/ml), MR as stored.
"""

import struct
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
import SimpleITK

from stunet.errors import FileError, UserError, listed
from stunet.imaging.formats.itk import readable_by_itk
from stunet.imaging.volume import SHEAR_TOLERANCE, Volume, check_affine, check_size

GAP_TOLERANCE = 0.1
"""Slice distances may differ by this fraction of the usual one; positions are decimal strings, often rounded."""

SAME_POSITION_MM = 1e-3
"""Slices closer together than this lie at one place."""

ORIENTATION_TOLERANCE = 1e-3
"""Direction cosines of one series may differ by this much between slices."""

_DAMAGE = (
    *(
        pydicom.errors.InvalidDicomError,
        pydicom.errors.BytesLengthException,
        OSError,
        EOFError,
        ValueError,
        struct.error,
    ),
    *(KeyError, TypeError, AttributeError, NotImplementedError),
)
"""What pydicom raises for damaged headers and for files of another kind."""

_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
"""A file without DICOM's preamble begins with an element of group 2 or 8, in either byte order."""

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

_GEOMETRY_TAGS = ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"]
_HEADER_TAGS = [
    *("SOPClassUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality", "ImageType"),
    *("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated", "PhotometricInterpretation"),
    *_GEOMETRY_TAGS,
]


@dataclass(frozen=True, eq=False)
class Slice:
    """What the header of one slice says.

    Attributes:
        path: Its file.
        series: SeriesInstanceUID; may be empty.
        name: Series description and modality, for messages.
        size: (rows, columns).
        spacing: (row distance, column distance) in mm.
        position: (3,) centre of the first pixel, LPS mm.
        row, column: (3,) unit vectors along which a row's and a column's pixels follow each other, LPS.
        is_inverted: small values are shown bright (MONOCHROME1).
    """

    path: Path
    series: str
    name: str
    size: tuple[int, int]
    spacing: tuple[float, float]
    position: np.ndarray
    row: np.ndarray
    column: np.ndarray
    is_inverted: bool

    @property
    def normal(self) -> np.ndarray:
        """(3,) unit vector across the slice."""
        normal = np.cross(self.row, self.column)
        return normal / np.linalg.norm(normal)


def read_dicom_series(folder: Path) -> Volume:
    """Read the one image series that a folder holds.

    Files that are not DICOM images with a place in the patient (reports, structure sets, screen captures) and
    localizers are passed over, and the volume's warnings say so.

    Args:
        folder: Holds the slices; or one of the folders below it, at any depth, does.

    Returns:
        Volume with array (1, Z, Y, X), slices in the order of their normal; int16 where the rescaled values fit, else
        float32.

    Raises:
        UserError: If there is no series or more than one, or it has missing, doubled, tilted or uneven slices.
    """
    found = _find_slices(folder)
    folder, slices = found.folder, _one_series(found.slices, found.folder)
    _check_alike(slices, folder)
    normal = slices[0].normal
    slices.sort(key=lambda one: float(one.position @ normal))
    _check_gaps(slices, [float(one.position @ normal) for one in slices], folder)
    step = (slices[-1].position - slices[0].position) / (len(slices) - 1)
    _check_tilt(step, normal, folder)
    affine = _affine(slices[0], step)
    check_affine(affine, str(folder))
    rows, columns = slices[0].size
    check_size((len(slices), rows, columns), str(folder))
    row_mm, column_mm = slices[0].spacing
    spacing = (float(np.linalg.norm(step)), row_mm, column_mm)
    return Volume(_read_pixels(slices)[None], affine, None, str(folder), spacing, found.warnings)


@dataclass(frozen=True)
class FolderContent:
    """What lies in a folder, without its subfolders.

    Attributes:
        folder: which.
        slices: all slices.
        passed: how many files are no slices, by what they are instead.
    """

    folder: Path
    slices: list[Slice]
    passed: Counter[str]

    @property
    def others(self) -> str:
        """What is no slice, in words."""
        return ", ".join(f"{count} x {kind}" for kind, count in self.passed.items())

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence about what is no slice, if there is any."""
        return (f"{self.folder}: passed over {self.others}.",) if self.passed else ()


def _find_slices(folder: Path) -> FolderContent:
    """The content of the folder with the slices: this one, or the only one below it that has any."""
    content = _read_folder(folder)
    if content.slices:
        return content
    with_slices = [one for one in map(_read_folder, _folders_below(folder)) if one.slices]
    if not with_slices:
        raise FileError(
            f"{folder}: holds no DICOM slices ({content.others or 'no files'}); give the folder with the files of one "
            "series."
        )
    if len(with_slices) > 1:
        found = listed(f"{one.folder} ({len(one.slices)} slices)" for one in with_slices)
        raise FileError(
            f"{folder}: has DICOM slices in {len(with_slices)} folders below it; give one of them: {found}."
        )
    return with_slices[0]


def _folders_below(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_dir() and not path.is_symlink()]


def _read_folder(folder: Path) -> FolderContent:
    """Read all headers in a folder; names that begin with a dot are not looked at."""
    content = FolderContent(folder, [], Counter())
    for path in sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")):
        found = _read_slice(path)
        if isinstance(found, Slice):
            content.slices.append(found)
        else:
            content.passed[found] += 1
    return content


def _read_slice(path: Path) -> Slice | str:
    """Return what the header says, or the reason why the file is no slice of a scan.

    Raises:
        UserError: If it is a slice, but of a kind that cannot be read.
    """
    header = _read_header(path)
    if header is None:
        return "file that is not DICOM"
    try:
        return _reason_to_pass(header, path) or _slice_of(path, header)
    except _DAMAGE as error:
        if isinstance(error, UserError):
            raise
        raise FileError(f"{path}: the DICOM header holds impossible values; export the scan again.") from error


def _read_header(path: Path) -> pydicom.Dataset | None:
    """The header, or None if this is not DICOM."""
    try:
        with path.open("rb") as file:
            has_no_preamble = file.read(2) in _FIRST_GROUPS
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_HEADER_TAGS, force=has_no_preamble)
    except _DAMAGE:
        return None
    return header if not has_no_preamble or "SOPClassUID" in header else None


def _reason_to_pass(header: pydicom.Dataset, path: Path) -> str:
    """Why a DICOM object is no slice of a scan; empty if it is one."""
    kind = pydicom.uid.UID(header.get("SOPClassUID", "")).name or "object without a class"
    if _number(header, "NumberOfFrames") > 1 or kind.startswith("Enhanced"):
        raise FileError(
            f"{path}: is a multi-frame object ({kind}), which is not supported; convert it to one file per slice or to "
            ".nii.gz (for example with dcm2niix)."
        )
    if "Rows" not in header or not all(map(header.get, _GEOMETRY_TAGS)):
        return f"{kind} without a place in the patient"
    if "LOCALIZER" in (header.get("ImageType") or ()):
        return "localizer"
    return "colour image" if _number(header, "SamplesPerPixel") != 1 else ""


def _number(header: pydicom.Dataset, tag: str) -> int:
    """A number that is 1 where it is not stated."""
    return int(header.get(tag) or 1)


def _slice_of(path: Path, header: pydicom.Dataset) -> Slice:
    position, directions, (row_mm, column_mm) = (np.array(header[tag].value, dtype=float) for tag in _GEOMETRY_TAGS)
    row, column = directions.reshape(2, 3)
    if position.shape != (3,) or not np.isfinite(position).all():
        raise ValueError(f"position {position}")
    if not np.allclose([row @ row, column @ column, row @ column], [1, 1, 0], atol=ORIENTATION_TOLERANCE):
        raise FileError(f"{path}: the orientation in the header is not that of a rectangle; export the scan again.")
    parts = (header.get("SeriesNumber"), header.get("SeriesDescription"), header.get("Modality"))
    name = " ".join(str(part) for part in parts if part) or "no description"
    series = str(header.get("SeriesInstanceUID") or "")
    size = int(header.Rows), int(header.Columns)
    if path.stat().st_size < _least_bytes(header):
        raise FileError(f"{path}: holds fewer pixels than its {size[1]}x{size[0]}; copy or export it again.")
    row, column = row / np.linalg.norm(row), column / np.linalg.norm(column)
    is_inverted = header.get("PhotometricInterpretation") == "MONOCHROME1"
    return Slice(path, series, name, size, (float(row_mm), float(column_mm)), position, row, column, is_inverted)


def _least_bytes(header: pydicom.Dataset) -> int:
    """Size that the pixels need where they are not compressed, else 0; GDCM would make up what is missing."""
    syntax = header.file_meta.get("TransferSyntaxUID", pydicom.uid.ImplicitVRLittleEndian)
    if syntax.is_compressed or syntax.is_deflated:
        return 0
    return int(header.Rows) * int(header.Columns) * int(header.get("BitsAllocated") or 16) // 8


def _one_series(slices: Sequence[Slice], folder: Path) -> list[Slice]:
    series = defaultdict(list)
    for one in slices:
        series[one.series].append(one)
    if len(series) > 1:
        found = "; ".join(f"{uid or 'no UID'} ({members[0].name}): {len(members)}" for uid, members in series.items())
        raise FileError(
            f"{folder}: holds slices of {len(series)} series, put the one to segment in a folder of its own. {found}."
        )
    return list(slices)


def _check_alike(slices: Sequence[Slice], folder: Path) -> None:
    first = slices[0]
    for one in slices:
        same_grid = one.size == first.size and np.allclose(one.spacing, first.spacing, rtol=1e-4)
        turned = max(np.abs(one.row - first.row).max(), np.abs(one.column - first.column).max())
        if not same_grid or turned > ORIENTATION_TOLERANCE:
            raise FileError(
                f"{folder}: {first.path.name} and {one.path.name} differ in size, spacing or orientation, so they are "
                "not slices of one scan; put those of one scan in a folder of its own."
            )


def _check_gaps(slices: Sequence[Slice], heights: Sequence[float], folder: Path) -> None:
    """Refuse single, doubled, missing and unevenly spaced slices, given in order with their heights in mm."""
    if len(slices) < 2:
        raise FileError(f"{folder}: holds a single slice ({slices[0].path.name}), but a 3D scan is needed.")
    gaps = np.diff(heights)
    narrowest = int(np.argmin(gaps))
    if gaps[narrowest] < SAME_POSITION_MM:
        raise FileError(
            f"{folder}: {slices[narrowest].path.name} and {slices[narrowest + 1].path.name} lie at the same position "
            f"({heights[narrowest]:.2f} mm); remove the duplicate, or the other time points of a dynamic scan."
        )
    usual = float(np.median(gaps))
    worst = int(np.argmax(np.abs(gaps - usual)))
    if abs(gaps[worst] - usual) > GAP_TOLERANCE * usual:
        raise FileError(
            f"{folder}: slices are missing or unevenly spaced: {gaps[worst]:.2f} mm between {slices[worst].path.name} "
            f"({heights[worst]:.2f} mm) and {slices[worst + 1].path.name} ({heights[worst + 1]:.2f} mm), but "
            f"{usual:.2f} mm elsewhere; export the series again."
        )


def _check_tilt(step: np.ndarray, normal: np.ndarray, folder: Path) -> None:
    """Refuse slices that are shifted against each other along `step` (3,) instead of the normal."""
    cosine = float(step @ normal) / float(np.linalg.norm(step))
    tilt = float(np.arccos(np.clip(cosine, -1.0, 1.0)))
    if tilt > SHEAR_TOLERANCE:
        raise FileError(
            f"{folder}: the gantry was tilted by {np.degrees(tilt):.1f} degrees, so the slices do not lie straight "
            "above each other; resample the series to a rectangular grid first (for example with dcm2niix)."
        )


def _affine(first: Slice, step: np.ndarray) -> np.ndarray:
    """Voxel (x, y, z) to RAS+ mm; x runs along a row, y down a column."""
    affine = np.eye(4)
    row_mm, column_mm = first.spacing
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = first.row * column_mm, first.column * row_mm, step
    affine[:3, 3] = first.position
    return _LPS_TO_RAS @ affine


def _read_pixels(slices: Sequence[Slice]) -> np.ndarray:
    """Read (Z, Y, X) rescaled values; starts in int16 and changes to float32 at the first slice that needs it."""
    array = np.empty((len(slices), *slices[0].size), dtype=np.int16)
    limits = np.iinfo(np.int16)
    for z, one in enumerate(slices):
        pixels = _decode(one)
        fits = pixels.dtype.kind in "iu" and limits.min <= pixels.min() and pixels.max() <= limits.max
        if array.dtype == np.int16 and not fits:
            array = array.astype(np.float32)
        array[z] = pixels
    return array


def _decode(one: Slice) -> np.ndarray:
    """Decode and rescale the pixels (rows, columns) of one slice."""
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    try:
        with _as_stored(one) as path, readable_by_itk(path) as name:
            reader.SetFileName(name)
            pixels = SimpleITK.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise FileError(f"{one.path}: the pixels cannot be decoded; the file is damaged, export it again.") from error
    return pixels.reshape(one.size)


@contextmanager
def _as_stored(one: Slice) -> Iterator[Path]:
    """The slice's file; where GDCM would invert its values, a copy that does not say so."""
    if not one.is_inverted:
        yield one.path
        return
    dataset = pydicom.dcmread(one.path, force=True)
    dataset.PhotometricInterpretation = "MONOCHROME2"
    with TemporaryDirectory(prefix="stunet") as folder:
        copy = Path(folder) / "slice.dcm"
        dataset.save_as(copy)
        yield copy
