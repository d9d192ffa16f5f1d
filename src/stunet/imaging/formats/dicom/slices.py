"""What one image of a DICOM series is, whether it has a file of its own or is a frame in one."""

import math
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom

from stunet.errors import FileError
from stunet.imaging.affine import SHEAR_TOLERANCE
from stunet.imaging.formats.claims import DEFLATE_MAX_RATIO
from stunet.imaging.formats.dicom.find import FREE_BYTES, Source

CANDIDATES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
    "1.2.840.10008.5.1.4.1.1.128": "PT",
    "1.2.840.10008.5.1.4.1.1.128.1": "PT",
    "1.2.840.10008.5.1.4.1.1.130": "PT",
    "1.2.840.10008.5.1.4.1.1.20": "NM",
}
"""Classes of objects that may be slices of a scan, and their modality: plain, enhanced, and converted to enhanced."""

_NEWER_CLASSES = {"1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage"}
"""Names that pydicom does not know yet."""

TILINGS = {"MOSAIC": "MOSAIC", "GRID": "GRID", "VFRAME": "GRID"}
"""Types of images that show a whole volume as tiles, and Siemens's and UIH's name for it."""

_NO_SLICES = {"LOCALIZER": "localizer", "SCREEN SAVE": "screen capture", "DOSE_INFO": "dose report"}
"""What ImageType calls an image that is no slice."""

UNIT_TOLERANCE = 0.02
"""Direction cosines are unit vectors up to this; some writers round them to two or three digits."""


@dataclass(frozen=True)
class SeriesFacts:
    """What all slices of a series have in common.

    Attributes:
        uid: SeriesInstanceUID; may be empty.
        study: StudyInstanceUID; may be empty.
        number: SeriesNumber; may be empty.
        modality: CT, MR, PT, NM.
        description: SeriesDescription.
        kernel: of the reconstruction, in CT.
    """

    uid: str
    study: str
    number: str
    modality: str
    description: str
    kernel: str

    @property
    def name(self) -> str:
        """Number, description and modality, for messages."""
        return " ".join(part for part in (self.number, self.description, self.modality) if part) or "no description"


@dataclass(frozen=True)
class Phase:
    """What distinguishes the volumes of one series, the most reliable first; empty if it is not stated.

    Attributes:
        stack: StackID.
        image_type: such as ORIGINAL/PRIMARY/M.
        echo: its time in ms, or its number.
        time_point: TemporalPositionIdentifier.
        b_value: of diffusion, s/mm².
        direction: of diffusion.
        trigger: time after the trigger, ms.
        frame_time: of dynamic PET, ms.
        acquisition: AcquisitionNumber.
        acquired, made: date and time of acquisition and of the image.
        dimensions: of a frame, its indices along the dimensions that the file declares, without those of place.
    """

    stack: str = ""
    image_type: str = ""
    echo: str = ""
    time_point: str = ""
    b_value: str = ""
    direction: str = ""
    trigger: str = ""
    frame_time: str = ""
    acquisition: str = ""
    acquired: str = ""
    made: str = ""
    dimensions: str = ""


@dataclass(frozen=True)
class Plane:
    """Where a slice lies in the patient.

    Attributes:
        position: (3,) centre of the first pixel, LPS mm.
        row, column: (3,) unit vectors along which a row's and a column's pixels follow each other, LPS.
        spacing: (row distance, column distance) in mm.
    """

    position: np.ndarray
    row: np.ndarray
    column: np.ndarray
    spacing: tuple[float, float]

    @property
    def normal(self) -> np.ndarray:
        """(3,) unit vector across the slice."""
        normal = np.cross(self.row, self.column)
        return normal / np.linalg.norm(normal)


@dataclass(frozen=True)
class Tile:
    """The part of an image that is a slice.

    Attributes:
        row, column: its first pixel in the image.
        image_size: (rows, columns) of the image.
    """

    row: int
    column: int
    image_size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Slice:
    """One image with a place in the patient.

    Attributes:
        source: its file.
        frame: its number in the file, from 0.
        sop_uid: SOPInstanceUID of the file; may be empty.
        facts: of its series.
        phase: which of the series' volumes it belongs to.
        plane: where it lies.
        size: (rows, columns).
        thickness: SliceThickness or SpacingBetweenSlices, the larger, in mm; 0 where neither is stated.
        slope, intercept: stored values times slope plus intercept are CT numbers, activities, ...
        instance: InstanceNumber, or the frame's place in its stack; None if it is not stated.
        problem: why a series with this slice cannot be read, as a sentence; empty if it can be read.
        order: InstanceNumber of its file; None if it is not stated.
        tile: which part of the image it is; None for the whole.
        concatenated: whether its file is one of several that hold the frames of one object.
    """

    source: Source
    frame: int
    sop_uid: str
    facts: SeriesFacts
    phase: Phase
    plane: Plane
    size: tuple[int, int]
    thickness: float
    slope: float
    intercept: float
    instance: int | None
    problem: str = ""
    order: int | None = None
    tile: Tile | None = None
    concatenated: bool = False

    @property
    def name(self) -> str:
        """Its file's name, and the frame if it has a number, for messages."""
        return f"{self.source.name} frame {self.frame + 1}" if self.frame else self.source.name

    @property
    def is_original_axial(self) -> bool:
        """Whether its ImageType says that the scanner made it so, or nothing else."""
        types = self.phase.image_type.split("/")
        is_axial = abs(self.plane.normal[2]) > np.cos(np.pi / 4)
        return "DERIVED" not in types and "SECONDARY" not in types and is_axial


def reason_to_pass(header: pydicom.Dataset) -> str:
    """Why a DICOM object is not a slice of a scan, in a few words; empty if it may be one."""
    uid = sop_class(header)
    if uid not in CANDIDATES and (uid or header.get("Modality") not in CANDIDATES.values()):
        return class_name(header)
    types = [str(one).upper() for one in header.get("ImageType") or ()]
    for mark, what in _NO_SLICES.items():
        if mark in types:
            return what
    if number(header, "SamplesPerPixel", 1) != 1 or header.get("PhotometricInterpretation") == "PALETTE COLOR":
        return "colour image"
    return ""


def sop_class(header: pydicom.Dataset) -> str:
    """UID of the SOP class, by the object or, where it does not say, by the file's own header."""
    return str(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID") or "")


def class_name(header: pydicom.Dataset) -> str:
    """The name of the SOP class."""
    uid = sop_class(header)
    return _NEWER_CLASSES.get(uid) or pydicom.uid.UID(uid).name or "object without a class"


def facts_of(header: pydicom.Dataset) -> SeriesFacts:
    """The header's fields that describe its series."""
    modality = text(header, "Modality") or CANDIDATES.get(sop_class(header), "")
    names = ("SeriesInstanceUID", "StudyInstanceUID", "SeriesNumber", "SeriesDescription", "ConvolutionKernel")
    uid, study, series, description, kernel = (text(header, name) for name in names)
    return SeriesFacts(uid, study, series, modality, description, kernel)


def plane_of(place: tuple[Any, ...], source: Source) -> Plane:
    """A plane from what headers hold: 3 numbers of a position, 6 of an orientation, 2 of a pixel spacing.

    Raises:
        UserError: directions that are not those of a rectangle.
        ValueError, TypeError: other counts, or no numbers.
    """
    position, directions, spacing = ([float(number) for number in part] for part in place)
    if (len(position), len(directions), len(spacing)) != (3, 6, 2):
        raise ValueError(f"{len(position)}, {len(directions)} and {len(spacing)} numbers")
    if not all(map(math.isfinite, (*position, *directions, *spacing))):
        raise ValueError("a number that is not finite")
    across, down = math.hypot(*directions[:3]), math.hypot(*directions[3:])
    angle = sum(map(operator.mul, directions[:3], directions[3:]))
    if max(abs(across - 1), abs(down - 1)) > UNIT_TOLERANCE or abs(angle) > SHEAR_TOLERANCE * across * down:
        raise FileError(f"{source}: the orientation in the header is not that of a rectangle; export the scan again.")
    row, column = np.array(directions[:3]) / across, np.array(directions[3:]) / down
    return Plane(np.array(position), row, column, (spacing[0], spacing[1]))


def problem_of(header: pydicom.Dataset, source: Source) -> str:
    """Why a series with this image cannot be read; empty if it can be read."""
    tiling = tiling_name(header)
    if tiling:
        return (
            f"{source}: is a {tiling}, a whole volume shown as tiles of one image, and the header does not say where "
            "each tile lies; convert the series to .nii.gz where it was made."
        )
    return missing_pixels(header, source)


def tiling_name(header: pydicom.Dataset) -> str:
    """What the maker calls an image of tiles; empty for other images."""
    types = text(header, "ImageType").upper().split("/")
    return next((name for mark, name in TILINGS.items() if mark in types), "")


def missing_pixels(header: pydicom.Dataset, source: Source) -> str:
    """That a file is too small for its image, as a sentence; empty if it is not."""
    if not source.is_gzipped and source.size < _least_bytes(header):
        size = f"{int(header.Columns)}x{int(header.Rows)}"
        return f"{source}: holds fewer pixels than its {size}; copy or export it again."
    return ""


def _least_bytes(header: pydicom.Dataset) -> int:
    """Size that the pixels need; where they are compressed, only that of a scan that is too large to be true."""
    pixels = int(header.Rows) * int(header.Columns) * number(header, "NumberOfFrames", 1)
    unpacked = pixels * number(header, "BitsAllocated", 16) // 8
    syntax = header.file_meta.get("TransferSyntaxUID", pydicom.uid.ImplicitVRLittleEndian)
    if syntax.is_compressed or syntax.is_deflated:
        return max(0, unpacked - FREE_BYTES) // DEFLATE_MAX_RATIO
    return unpacked


def text(header: pydicom.Dataset, name: str) -> str:
    """A field as text of one line; several values are joined by a slash."""
    value = header.get(name)
    if value is None:
        return ""
    values = value if isinstance(value, list | pydicom.multival.MultiValue) else [value]
    joined = "/".join(str(one) for one in values)
    return "".join(letter if letter.isprintable() else " " for letter in joined).strip()


def number(header: pydicom.Dataset, name: str, default: int) -> int:
    """A whole number, or the default where it is not stated."""
    value = header.get(name)
    return default if value is None or value == "" else int(value)


def real(header: pydicom.Dataset, name: str, default: float) -> float:
    """A finite number, or the default where it is not stated.

    Raises:
        ValueError: it is not finite.
    """
    value = header.get(name)
    if value is None or value == "":
        return float(default)
    if not math.isfinite(value):
        raise ValueError(f"{name} {value}")
    return float(value)
