"""The header of one file: the slices that it describes, or why there are none."""

import struct
import zipfile
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pydicom

from stunet.errors import FileError, UserError
from stunet.imaging.formats.dicom import slices
from stunet.imaging.formats.dicom.find import HEAD_BYTES, Source, has_preamble, may_lack_preamble, sources_in
from stunet.imaging.formats.dicom.frames import FRAME_TAGS, is_enhanced, slices_of_frames
from stunet.imaging.formats.dicom.slices import Phase, Slice
from stunet.imaging.formats.dicom.tiles import slices_of_tiles, tiling_of

DAMAGE = (
    *(pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException, struct.error, zipfile.BadZipFile),
    *(OSError, EOFError, ValueError, zlib.error, RecursionError, OverflowError, IndexError),
    *(KeyError, TypeError, AttributeError, NotImplementedError),
)
"""What pydicom raises for damaged headers and for files of another kind."""

THREADS = 4
"""Files to read at the same time; this helps if the disk is slow."""

_SERIES_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "SeriesNumber", "SeriesDescription"),
    *("Modality", "ImageType", "ConvolutionKernel", "InstanceNumber", "SliceThickness", "SpacingBetweenSlices"),
]
_PHASE_TAGS = [
    *("StackID", "EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "DiffusionBValue", "TriggerTime"),
    "DiffusionGradientOrientation",
    *("FrameReferenceTime", "AcquisitionNumber", "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime"),
    *("ContentTime",),
]
_PLACE_TAGS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_IMAGE_TAGS = [
    *("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated", "PhotometricInterpretation"),
    *(*_PLACE_TAGS, "RescaleSlope", "RescaleIntercept"),
]
_TAGS = [pydicom.tag.Tag(name) for name in (*_SERIES_TAGS, *_PHASE_TAGS, *_IMAGE_TAGS)]


@dataclass(frozen=True)
class Passed:
    """A file that is not a slice of a scan.

    Attributes:
        source: which.
        kind: what it is, in a few words.
    """

    source: Source
    kind: str


@dataclass(frozen=True)
class Unreadable:
    """A file that may be a slice but cannot be read.

    Attributes:
        source: which.
        series: SeriesInstanceUID; empty if it is not known.
        reason: a sentence.
    """

    source: Source
    series: str
    reason: str


Content = list[Slice] | Passed | Unreadable


def read_headers(path: Path) -> list[Content]:
    """The content of all files of a path; see `sources_in`."""
    with ThreadPoolExecutor(THREADS, "stunet-headers") as pool:
        return list(pool.map(read_content, sources_in(path)))


def read_content(source: Source) -> Content:
    """What the header of one file says."""
    if not source.size:
        return Unreadable(source, "", f"{source}: is empty (0 bytes); copy or export it again.")
    try:
        with source.open() as file:
            head = file.read(HEAD_BYTES)
            if not has_preamble(head) and not may_lack_preamble(head):
                return Passed(source, "file that is not DICOM")
            return _content_of(source, head, file)
    except DAMAGE as error:
        return Unreadable(source, "", f"{source}: cannot be read ({_why(error)}); copy or export it again.")


def _why(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _content_of(source: Source, head: bytes, file: BinaryIO) -> Content:
    """The content of a file that begins like DICOM."""
    try:
        header = _read(file, _TAGS)
    except DAMAGE:
        return _damaged(source) if has_preamble(head) else Passed(source, "file that is not DICOM")
    try:
        if not slices.sop_class(header) and (not has_preamble(head) or "Modality" not in header):
            return _damaged(source) if has_preamble(head) else Passed(source, "file that is not DICOM")
        passed = slices.reason_to_pass(header)
        return Passed(source, passed) if passed else _slices_of(source, header, file)
    except DAMAGE:
        return Unreadable(source, "", _impossible(source))


def _read(file: BinaryIO, tags: Iterable[pydicom.tag.BaseTag]) -> pydicom.Dataset:
    file.seek(0)
    return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(tags), force=True)


def _slices_of(source: Source, header: pydicom.Dataset, file: BinaryIO) -> Content:
    """The slices of a file of an image class."""
    series = slices.facts_of(header).uid
    try:
        if is_enhanced(header):
            return slices_of_frames(source, _read(file, [*_TAGS, *FRAME_TAGS]))
        if slices.tiling_name(header):
            return _tiled(source, header, file)
        return _classic(source, header)
    except UserError as error:
        return Unreadable(source, series, str(error))
    except DAMAGE:
        return Unreadable(source, series, _impossible(source))


def _damaged(source: Source) -> Unreadable:
    return Unreadable(source, "", f"{source}: the DICOM header is damaged; copy or export it again.")


def _impossible(source: Source) -> str:
    return f"{source}: the DICOM header holds impossible values; export the scan again."


def _classic(source: Source, header: pydicom.Dataset) -> Content:
    """The only slice of a file, if the file says where it lies."""
    _check_one_image(source, header)
    place = tuple(header.get(name) for name in _PLACE_TAGS)
    problem = slices.problem_of(header, source)
    if all(place):
        return [_slice_at(place, source, header, problem)]
    if problem:
        raise FileError(problem)
    return Passed(source, f"{slices.class_name(header)} without a place in the patient")


def _tiled(source: Source, header: pydicom.Dataset, file: BinaryIO) -> Content:
    """The slices that are tiles of one image; the image, with that problem, where their places are not known."""
    _check_one_image(source, header)
    file.seek(0)
    try:
        tiling = tiling_of(pydicom.dcmread(file, stop_before_pixels=True, force=True), source)
    except DAMAGE:
        return _classic(source, header)
    place = (tiling.planes[0].position, header.ImageOrientationPatient, header.PixelSpacing)
    return slices_of_tiles(_slice_at(place, source, header, slices.missing_pixels(header, source)), tiling)


def _check_one_image(source: Source, header: pydicom.Dataset) -> None:
    if slices.number(header, "NumberOfFrames", 1) > 1:
        raise FileError(
            f"{source}: is a multi-frame object ({slices.class_name(header)}) that does not say where each frame lies; "
            "convert it to .nii.gz (for example with dcm2niix)."
        )
    if "Rows" not in header or "Columns" not in header:
        raise FileError(f"{source}: the DICOM header ends before the image; copy or export it again.")


def _slice_at(place: tuple[Any, ...], source: Source, header: pydicom.Dataset, problem: str) -> Slice:
    return Slice(
        source,
        frame=0,
        sop_uid=slices.text(header, "SOPInstanceUID"),
        facts=slices.facts_of(header),
        phase=_phase_of(header),
        plane=slices.plane_of(place, source),
        size=(int(header.Rows), int(header.Columns)),
        thickness=max(abs(slices.real(header, name, 0)) for name in ("SliceThickness", "SpacingBetweenSlices")),
        slope=slices.real(header, "RescaleSlope", 1) or 1.0,
        intercept=slices.real(header, "RescaleIntercept", 0),
        instance=slices.number(header, "InstanceNumber", 0) or None,
        problem=problem,
        order=slices.number(header, "InstanceNumber", 0) or None,
    )


def _phase_of(header: pydicom.Dataset) -> Phase:
    said = partial(slices.text, header)
    return Phase(
        stack=said("StackID"),
        image_type=said("ImageType"),
        echo=said("EchoTime") or said("EchoNumbers"),
        time_point=said("TemporalPositionIdentifier"),
        b_value=said("DiffusionBValue"),
        direction=said("DiffusionGradientOrientation"),
        trigger=said("TriggerTime"),
        frame_time=said("FrameReferenceTime"),
        acquisition=said("AcquisitionNumber"),
        acquired=said("AcquisitionDateTime") or f"{said('AcquisitionDate')} {said('AcquisitionTime')}".strip(),
        made=said("ContentTime"),
    )
