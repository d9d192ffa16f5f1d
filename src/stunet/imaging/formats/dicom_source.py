"""The series that a DICOM result refers to: its patient and study, and each of its slices.

The patient's fields are copied byte by byte and never interpreted, so no warning of a library can show them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import cast

import pydicom
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.tag import Tag

from stunet.errors import FileError
from stunet.imaging.formats.dicom.find import Source
from stunet.imaging.formats.dicom.geometry import Stack
from stunet.imaging.formats.dicom.headers import DAMAGE
from stunet.imaging.formats.dicom.slices import Slice, sop_class, text
from stunet.imaging.formats.dicom_frames import FRAMES, encode_frames
from stunet.imaging.formats.dicom_results import Algorithm

REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber"),
    *("StudyID", "ReferringPhysicianName"),
)
"""Fields that an object must have; they may be empty."""

COPIED = (
    *REQUIRED,
    *("IssuerOfPatientID", "PatientAge", "PatientSize", "PatientWeight", "StudyDescription"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "ClinicalTrialSubjectID"),
)
"""Fields of patient and study that a result shares with its source; ClinicalTrialSubjectID names trial subjects."""

_SERIES = ("SOPClassUID", "FrameOfReferenceUID", "PositionReferenceIndicator", "SpecificCharacterSet", "SeriesNumber")

UTF8 = "ISO_IR 192"
"""DICOM's name of UTF-8."""


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """A series to which a result refers.

    Attributes:
        stack: its slices.
        classes: SOPClassUID of each slice's file, in the order of the stack.
        frame_of_reference: its UID.
        header: of the first file; only what `COPIED` and `_SERIES` name, undecoded.
    """

    stack: Stack
    classes: tuple[str, ...]
    frame_of_reference: str
    header: pydicom.Dataset

    @property
    def first(self) -> Slice:
        """The lowest slice."""
        return self.stack.slices[0]

    @cached_property
    def is_multi_frame(self) -> bool:
        """Whether slices are frames of files with several."""
        return any(_holds_frames(one) for one in set(self.classes))

    def copy_patient_and_study_to(self, dataset: pydicom.Dataset) -> None:
        """Copy the patient and study of its source to a result, byte by byte."""
        values = {name: _bytes_of(self.header, name) for name in COPIED}
        for name, value in values.items():
            if value or name in REQUIRED:
                _set_bytes(dataset, name, value)
        dataset.StudyInstanceUID = self.first.facts.study
        dataset.FrameOfReferenceUID = self.frame_of_reference
        dataset.PositionReferenceIndicator = text(self.header, "PositionReferenceIndicator")
        if all(value.isascii() for value in values.values()):
            dataset.SpecificCharacterSet = UTF8
        else:
            dataset.SpecificCharacterSet = self.header.get("SpecificCharacterSet") or "ISO_IR 6"


def source_of(stack: Stack) -> SourceSeries:
    """Read what a result needs to know about the files of its source.

    Raises:
        UserError: a file that cannot be read, slices that are tiles of an image, or slices without the identifiers to
            which a result must refer.
    """
    if any(one.tile for one in stack.slices):
        raise FileError(
            f"{stack.slices[0].source}: shows its slices as tiles of one image, to which a DICOM result cannot refer; "
            "write another format, such as nifti."
        )
    headers = _headers_of_files(stack)
    first = stack.slices[0]
    frames = {text(header, "FrameOfReferenceUID") for header in headers.values()}
    classes = tuple(sop_class(headers[id(one.source)]) for one in stack.slices)
    missing = {
        "StudyInstanceUID": not first.facts.study,
        "SeriesInstanceUID": not first.facts.uid,
        "SOPInstanceUID": not all(one.sop_uid for one in stack.slices),
        "SOPClassUID": not all(classes),
        "FrameOfReferenceUID": "" in frames,
    }
    if any(missing.values()):
        raise FileError(
            f"{first.source}: has no {', '.join(name for name in missing if missing[name])}, and a DICOM result must "
            "refer to it; export the series again, or write another format, such as nifti."
        )
    if len(frames) > 1:
        raise FileError(f"{first.source}: the slices have several frames of reference; export the series again.")
    return SourceSeries(stack, classes, frames.pop(), headers[id(first.source)])


def save_undecoded(dataset: pydicom.Dataset, path: Path) -> None:
    """Write a result. The bytes of the patient's fields do not change."""
    syntax = dataset.file_meta.TransferSyntaxUID
    frames = dataset.pop(FRAMES, None)
    correct_ambiguous_vr(dataset, is_little_endian=True)
    dataset.set_original_encoding(syntax.is_implicit_VR, True, convert_encodings(dataset.SpecificCharacterSet))
    if frames is not None:
        dataset[FRAMES] = encode_frames(cast(Sequence[pydicom.Dataset], frames.value))
    if "PixelData" in dataset:
        dataset.PixelData = BytesIO(dataset.PixelData)  # pydicom writes a buffer in chunks, and bytes through a copy
    dataset.save_as(path, enforce_file_format=True)


def _headers_of_files(stack: Stack) -> dict[int, pydicom.Dataset]:
    """The header of each file, by the identity of its source; only the first slice's has the patient."""
    sources = {id(one.source): one.source for one in stack.slices}
    first = stack.slices[0].source
    return {
        key: _header(source, (*_SERIES, *COPIED) if source is first else _SERIES) for key, source in sources.items()
    }


def describe_equipment(dataset: pydicom.Dataset, algorithm: Algorithm) -> None:
    """Name stunet and the model in a result."""
    dataset.Manufacturer = dataset.ManufacturerModelName = "stunet"
    dataset.SoftwareVersions = version("stunet")
    dataset.DeviceSerialNumber = algorithm.version
    dataset.SeriesDescription = f"stunet {algorithm.name}"[:64]


def series_number(source: SourceSeries, offset: int) -> int:
    """A number for the series of a result, of a kind that has its own thousands."""
    number = source.first.facts.number
    return offset + (int(number) % 1000 if number.isdigit() else 0)


def _header(source: Source, names: Iterable[str]) -> pydicom.Dataset:
    try:
        with source.open() as file:
            return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(names), force=True)
    except DAMAGE as error:
        raise FileError(f"{source}: cannot be read; copy or export it again.") from error


def _bytes_of(header: pydicom.Dataset, name: str) -> bytes:
    """The bytes of a field; empty if it is missing."""
    tag = Tag(name)
    element = header.get_item(tag) if tag in header else None
    value = element.value if isinstance(element, RawDataElement) else None
    return bytes(value or b"")


def _set_bytes(dataset: pydicom.Dataset, name: str, value: bytes) -> None:
    """Fill a field without decoding."""
    tag = Tag(name)
    padded = value + b" " * (len(value) % 2)
    dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(padded), padded, 0, False, True)


def _holds_frames(uid: str) -> bool:
    name = pydicom.uid.UID(uid).name
    return "Enhanced" in name or name.startswith("Nuclear Medicine")
