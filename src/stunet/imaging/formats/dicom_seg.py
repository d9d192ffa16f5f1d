"""DICOM segmentations, written by highdicom: one label for each voxel, or one mask for each structure.

highdicom gets a header for each slice, made from what the reader found, without the patient. So order and position are
the reader's, and multi-frame, tilted and uneven series need no special treatment. Patient, study and references to
frames are filled in afterwards.
"""

from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid
from pydicom.valuerep import DSfloat

from stunet.imaging.formats.dicom_results import SliceLabels
from stunet.imaging.formats.dicom_source import (
    SourceSeries,
    describe_equipment,
    save_undecoded,
    series_number,
    source_of,
)
from stunet.labels.codes import Code, code_of, dicom_name
from stunet.labels.ontology import colour_of

SERIES_OFFSET = 1000
"""Segmentations have series numbers from here on."""


def write_labelmap(result: SliceLabels, path: Path) -> None:
    """Write one label for each voxel (Supplement 243); a segment has its label's number.

    Slices are run-length encoded if they have an even number of pixels.

    Args:
        result: labels of structures that do not overlap.
        path: of the file.

    Raises:
        UserError: slices that cannot be referred to.
    """
    numbers = {label: label for label in result.names}
    _write(result, result.labels, numbers, SegmentationTypeValues.LABELMAP, path)


def write_binary(result: SliceLabels, path: Path) -> None:
    """Write one mask for each structure, uncompressed; segments are numbered from 1 in the order of their labels.

    If no structure occurs, each has an empty mask on the first slice, because a segmentation has at least one frame.

    Args:
        result: labels; structures may overlap.
        path: of the file.

    Raises:
        UserError: slices that cannot be referred to.
    """
    numbers = {label: number for number, label in enumerate(sorted(result.names), 1)}
    if result.is_empty:
        pixels = np.zeros((1, *result.labels.shape[1:]), dtype=np.uint8)
    else:
        pixels = _masks(result) if result.overlap else _renumbered(result.labels, numbers)
    _write(result, pixels, numbers, SegmentationTypeValues.BINARY, path)


def _masks(result: SliceLabels) -> np.ndarray:
    """(K, rows, columns, structures) of 0 and 1."""
    masks = [result.mask(result.labels, label) for label in sorted(result.names)]
    return np.stack(masks, axis=-1).astype(np.uint8)


def _renumbered(labels_KYX: np.ndarray, numbers: dict[int, int]) -> np.ndarray:
    """Labels as segment numbers; the same array if they are equal."""
    if all(label == number for label, number in numbers.items()):
        return labels_KYX
    table = np.zeros(int(labels_KYX.max()) + 1, dtype=np.uint8 if len(numbers) < 256 else np.uint16)
    table[list(numbers)] = list(numbers.values())
    return table[labels_KYX]


def _write(
    result: SliceLabels, pixels: np.ndarray, numbers: dict[int, int], kind: SegmentationTypeValues, path: Path
) -> None:
    source = source_of(result.stack)
    is_labelmap = kind == SegmentationTypeValues.LABELMAP
    segmentation = Segmentation(
        list(islice(_headers(source), len(pixels))),
        pixels,
        kind,
        list(_descriptions(result, numbers)),
        series_instance_uid=generate_uid(),
        series_number=series_number(source, SERIES_OFFSET),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="stunet",
        manufacturer_model_name="stunet",
        software_versions="",
        device_serial_number="",
        content_label="SEGMENTATION",
        content_description=dicom_name(f"labels by stunet {result.algorithm.name}"),
        omit_empty_frames=not is_labelmap
        and not result.is_empty,  # in a label map all slices make a volume, and empty ones pack to nothing
        transfer_syntax_uid=RLELossless if is_labelmap and _can_be_packed(pixels) else ExplicitVRLittleEndian,
    )
    describe_equipment(segmentation, result.algorithm)
    source.copy_patient_and_study_to(segmentation)
    if source.is_multi_frame:
        _refer_to_frames(segmentation, source)
    if source.is_multi_frame or len(pixels) < len(source.stack.slices):
        _refer_to_all_files(segmentation, source)
    save_undecoded(segmentation, path)


def _can_be_packed(pixels_KYX: np.ndarray) -> bool:
    """GDCM's run-length encoder ends the process at frames with an odd number of pixels."""
    return pixels_KYX[0].size % 2 == 0


def _headers(source: SourceSeries) -> Iterator[pydicom.Dataset]:
    """A header for each slice, as if it had its own file."""
    stack = source.stack
    plane = stack.slices[0].plane
    thickness = max(one.thickness for one in stack.slices) or stack.usual_gap
    for one, sop_class in zip(stack.slices, source.classes, strict=True):
        header = pydicom.Dataset()
        for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
            setattr(header, name, "")
        header.StudyDate = header.StudyTime = ""
        header.StudyInstanceUID, header.SeriesInstanceUID = one.facts.study, one.facts.uid
        header.SOPClassUID = CTImageStorage if source.is_multi_frame else sop_class
        header.SOPInstanceUID = generate_uid() if source.is_multi_frame else one.sop_uid
        header.FrameOfReferenceUID = source.frame_of_reference
        header.Modality = one.facts.modality
        header.Rows, header.Columns = one.size
        header.ImagePositionPatient = _numbers(one.plane.position)
        header.ImageOrientationPatient = _numbers([*plane.row, *plane.column])
        header.PixelSpacing = _numbers(plane.spacing)
        header.SliceThickness = _numbers([thickness])[0]
        yield header


def _numbers(values: "np.ndarray | list[float] | tuple[float, ...]") -> list[DSfloat]:
    """Numbers as DICOM writes them, in 16 letters each."""
    return [DSfloat(float(value), auto_format=True) for value in values]


def _descriptions(result: SliceLabels, numbers: dict[int, int]) -> Iterator[SegmentDescription]:
    """What each segment is, in the order of their numbers."""
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=dicom_name(result.algorithm.name),
        family=codes.DCM.ArtificialIntelligence,
        version=result.algorithm.version,
        source="stunet",
    )
    for label, number in numbers.items():
        name = result.names[label]
        code = code_of(name, result.codes)
        description = SegmentDescription(
            number,
            dicom_name(name),
            _concept(code.category),
            _concept(code.kind),
            "AUTOMATIC",
            algorithm_identification=algorithm,
            tracking_uid=generate_uid(),
            tracking_id=dicom_name(name),
            display_color=CIELabColor.from_rgb(*colour_of(name, label)),
        )
        if code.side is not None:
            description.SegmentedPropertyTypeModifierCodeSequence = [_concept(code.side)]
        yield description


def _concept(code: Code) -> highdicom.sr.CodedConcept:
    return highdicom.sr.CodedConcept(code.value, code.scheme, code.meaning)


def _refer_to_frames(segmentation: pydicom.Dataset, source: SourceSeries) -> None:
    """Turn references to slices into references to frames of the files that hold them."""
    stand_ins = [item.ReferencedSOPInstanceUID for item in segmentation.SourceImageSequence]
    slices = dict(zip(stand_ins, zip(source.stack.slices, source.classes, strict=True), strict=False))
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        (item,) = frame.DerivationImageSequence[0].SourceImageSequence
        if item.ReferencedSOPInstanceUID in slices:  # masks of several structures on one slice share the item
            one, sop_class = slices[item.ReferencedSOPInstanceUID]
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, one.sop_uid
            item.ReferencedFrameNumber = one.frame + 1


def _refer_to_all_files(segmentation: pydicom.Dataset, source: SourceSeries) -> None:
    """Refer to each file of the series, in the lists that are not about frames."""
    items = list(referenced_files(source))
    segmentation.SourceImageSequence = items
    segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence = items


def referenced_files(source: SourceSeries) -> Iterator[pydicom.Dataset]:
    """One reference for each file, in the order of the slices."""
    files = zip(source.classes, (one.sop_uid for one in source.stack.slices), strict=True)
    for (sop_class, sop_uid), _ in groupby(files):
        item = pydicom.Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_uid
        yield item
