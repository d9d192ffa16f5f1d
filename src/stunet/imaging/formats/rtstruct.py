"""RT structure sets: closed contours of each structure on each slice, written with pydicom."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from scipy import ndimage

from stunet.imaging.formats.contours import polygons
from stunet.imaging.formats.dicom.slices import Plane
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

SERIES_OFFSET = 2000
"""Structure sets have series numbers from here on."""

_STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"
"""The retired class by which structure sets refer to their study."""

_CONTOUR_DATA = Tag("ContourData")


def write_rtstruct(result: SliceLabels, path: Path) -> None:
    """Write one region of interest for each structure, with its name, colour and code.

    Args:
        result: labels; structures may overlap.
        path: of the file.

    Raises:
        UserError: slices that cannot be referred to.
    """
    source = source_of(result.stack)
    dataset = _described(source, result)
    images = [_image(source, index) for index in range(len(result.stack.slices))]
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(source, images)]
    contours = _contours(result, images)
    numbers = list(enumerate(sorted(result.names), 1))
    dataset.StructureSetROISequence = [_region(number, result, label, source) for number, label in numbers]
    dataset.ROIContourSequence = [_outlines(number, result, label, contours[label]) for number, label in numbers]
    dataset.RTROIObservationsSequence = [_observation(number, result, label) for number, label in numbers]
    save_undecoded(dataset, path)


def _described(source: SourceSeries, result: SliceLabels) -> Dataset:
    """A structure set without structures."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian  # explicit lengths end at 64 kB, contours do not
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    now = datetime.now()
    dataset.InstanceCreationDate = dataset.StructureSetDate = dataset.SeriesDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = dataset.StructureSetTime = dataset.SeriesTime = now.strftime("%H%M%S")
    dataset.Modality, dataset.SeriesInstanceUID, dataset.InstanceNumber = "RTSTRUCT", generate_uid(), 1
    dataset.SeriesNumber = series_number(source, SERIES_OFFSET)
    dataset.OperatorsName = ""
    dataset.StructureSetLabel = "stunet"
    dataset.StructureSetName = dataset.StructureSetDescription = dicom_name(f"stunet {result.algorithm.name}")
    dataset.ApprovalStatus = "UNAPPROVED"
    describe_equipment(dataset, result.algorithm)
    source.copy_patient_and_study_to(dataset)
    return dataset


def _item(**values: object) -> Dataset:
    """An item of a sequence."""
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def _image(source: SourceSeries, index: int) -> Dataset:
    """A reference to a slice."""
    one = source.stack.slices[index]
    item = _item(ReferencedSOPClassUID=source.classes[index], ReferencedSOPInstanceUID=one.sop_uid)
    if source.is_multi_frame:
        item.ReferencedFrameNumber = one.frame + 1
    return item


def _frame_of_reference(source: SourceSeries, images: list[Dataset]) -> Dataset:
    facts = source.first.facts
    series = _item(SeriesInstanceUID=facts.uid, ContourImageSequence=images)
    study = _item(
        ReferencedSOPClassUID=_STUDY_COMPONENT,
        ReferencedSOPInstanceUID=facts.study,
        RTReferencedSeriesSequence=[series],
    )
    return _item(FrameOfReferenceUID=source.frame_of_reference, RTReferencedStudySequence=[study])


def _region(number: int, result: SliceLabels, label: int, source: SourceSeries) -> Dataset:
    return _item(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=source.frame_of_reference,
        ROIName=dicom_name(result.names[label]),
        ROIGenerationAlgorithm="AUTOMATIC",
        ROIGenerationDescription=dicom_name(f"stunet {result.algorithm.name}, {result.algorithm.version}"),
    )


def _outlines(number: int, result: SliceLabels, label: int, contours: list[Dataset]) -> Dataset:
    item = _item(ROIDisplayColor=list(colour_of(result.names[label], label)), ReferencedROINumber=number)
    if contours:  # a sequence without items is not allowed here
        item.ContourSequence = contours
    return item


def _observation(number: int, result: SliceLabels, label: int) -> Dataset:
    """What a region is; the side is a modifier of its code."""
    code = code_of(result.names[label], result.codes)
    item = _item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="", ROIInterpreter="")
    item.RTROIIdentificationCodeSequence = [_concept(code.kind)]
    if code.side is not None:
        modifiers = [_concept(code.side)]
        item.RTROIIdentificationCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = modifiers
    return item


def _concept(code: Code) -> Dataset:
    return _item(CodeValue=code.value, CodingSchemeDesignator=code.scheme, CodeMeaning=code.meaning)


def _contours(result: SliceLabels, images: list[Dataset]) -> dict[int, list[Dataset]]:
    """The contours of each structure, slice by slice."""
    contours: dict[int, list[Dataset]] = {label: [] for label in result.names}
    direction = result.stack.slices[0].plane
    for one, labels_YX, image in zip(result.stack.slices, result.labels, images, strict=True):
        place = Plane(one.plane.position, direction.row, direction.column, direction.spacing)
        for label, points in _outlined(result, labels_YX):
            contours[label].append(_contour(place, points, image))
    return contours


def _outlined(result: SliceLabels, labels_YX: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The polygons of each structure of a slice: label, and points (x, y) in voxels."""
    boxes = dict(enumerate(ndimage.find_objects(labels_YX), 1))
    for label in result.names:
        own = [box for one in result.labels_in(label) if (box := boxes.get(one)) is not None]
        if not own:
            continue
        y, x = (slice(min(box[i].start for box in own), max(box[i].stop for box in own)) for i in (0, 1))
        for points in polygons(result.mask(labels_YX[y, x], label)):
            yield label, points + np.array([x.start, y.start])


def _contour(place: Plane, points_xy: np.ndarray, image: Dataset) -> Dataset:
    row_mm, column_mm = place.spacing
    points = place.position + np.outer(points_xy[:, 0] * column_mm, place.row)
    points += np.outer(points_xy[:, 1] * row_mm, place.column)
    contour = _item(
        ContourImageSequence=[image], ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=len(points)
    )
    # as text at once: a number object for each coordinate takes most of the time and memory
    text = "\\".join(["%.4f"] * points.size) % tuple(points.ravel())
    value = text.encode() + b" " * (len(text) % 2)
    contour[_CONTOUR_DATA] = RawDataElement(_CONTOUR_DATA, "DS", len(value), value, 0, True, True)
    contour.set_original_encoding(True, True, default_encoding)  # so pydicom writes the text as it is
    return contour
