"""Enhanced multi-frame objects: each frame becomes a slice, by its functional groups."""

import pydicom

from stunet.errors import FileError
from stunet.imaging.formats.dicom import slices
from stunet.imaging.formats.dicom.find import Source
from stunet.imaging.formats.dicom.slices import CANDIDATES, Phase, Slice

_SEQUENCES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence")
FRAME_TAGS = [pydicom.tag.Tag(name) for name in (*_SEQUENCES, "ConcatenationUID")]

_ENHANCED = {uid for uid in CANDIDATES if "nhanced" in pydicom.uid.UID(uid).name}

_FRAME_TYPES = ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence")


def is_enhanced(header: pydicom.Dataset) -> bool:
    """Whether an object holds frames that functional groups describe."""
    return slices.sop_class(header) in _ENHANCED


def slices_of_frames(source: Source, header: pydicom.Dataset) -> list[Slice]:
    """One slice for each frame.

    Args:
        source: the file.
        header: with both sequences of functional groups.

    Raises:
        UserError: frames without a place in the patient, or fewer groups than frames.
        KeyError, TypeError, ValueError, AttributeError: a damaged header.
    """
    shared = header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    frames = header.get("PerFrameFunctionalGroupsSequence") or []
    count = slices.number(header, "NumberOfFrames", 1)
    if len(frames) != count:
        raise FileError(f"{source}: describes {len(frames)} of its {count} frames; export the scan again.")
    groups = [_Groups(shared[0], frame) for frame in frames]
    facts, problem = slices.facts_of(header), slices.problem_of(header, source)
    size = int(header.Rows), int(header.Columns)
    sop_uid = slices.text(header, "SOPInstanceUID")
    return [
        Slice(
            source,
            number,
            sop_uid,
            facts,
            _phase_of(one, header),
            _plane_of(one, source),
            size,
            thickness=max(abs(slices.real(one.macro("PixelMeasuresSequence"), n, 0)) for n in _THICKNESS),
            slope=slices.real(one.macro("PixelValueTransformationSequence"), "RescaleSlope", 1) or 1.0,
            intercept=slices.real(one.macro("PixelValueTransformationSequence"), "RescaleIntercept", 0),
            instance=slices.number(one.macro("FrameContentSequence"), "InStackPositionNumber", 0) or None,
            problem=problem,
            order=slices.number(header, "InstanceNumber", 0) or None,
            concatenated="ConcatenationUID" in header,
        )
        for number, one in enumerate(groups)
    ]


_PLACE_DIMENSIONS = [pydicom.tag.Tag(name) for name in ("InStackPositionNumber", "ImagePositionPatient")]
"""Dimensions along which the frames of one volume follow each other."""

_THICKNESS = ("SliceThickness", "SpacingBetweenSlices")


class _Groups:
    """The functional groups of one frame: its own or, if missing, the shared ones."""

    def __init__(self, shared: pydicom.Dataset, own: pydicom.Dataset):
        self._both = own, shared

    def macro(self, name: str) -> pydicom.Dataset:
        """The only item of a sequence; an empty one if it is missing."""
        for groups in self._both:
            items = groups.get(name)
            if items:
                return items[0]
        return pydicom.Dataset()


def _plane_of(groups: _Groups, source: Source) -> slices.Plane:
    place = (
        groups.macro("PlanePositionSequence").get("ImagePositionPatient"),
        groups.macro("PlaneOrientationSequence").get("ImageOrientationPatient"),
        groups.macro("PixelMeasuresSequence").get("PixelSpacing"),
    )
    if not all(place):
        raise FileError(
            f"{source}: is a multi-frame object that does not say where each frame lies in the patient, so it is "
            "not a scan."
        )
    return slices.plane_of(place, source)


def _phase_of(groups: _Groups, header: pydicom.Dataset) -> Phase:
    content = groups.macro("FrameContentSequence")
    types = next((found for name in _FRAME_TYPES if (found := slices.text(groups.macro(name), "FrameType"))), "")
    return Phase(
        stack=slices.text(content, "StackID"),
        image_type=types or slices.text(header, "ImageType"),
        echo=slices.text(groups.macro("MREchoSequence"), "EffectiveEchoTime"),
        time_point=slices.text(content, "TemporalPositionIndex"),
        b_value=slices.text(groups.macro("MRDiffusionSequence"), "DiffusionBValue"),
        direction=_direction(groups.macro("MRDiffusionSequence")),
        trigger=slices.text(groups.macro("CardiacSynchronizationSequence"), "NominalCardiacTriggerDelayTime"),
        frame_time=slices.text(content, "FrameReferenceDateTime"),
        acquisition=slices.text(content, "FrameAcquisitionNumber"),
        acquired=slices.text(content, "FrameAcquisitionDateTime"),
        dimensions=_dimensions(content, header),
    )


def _direction(diffusion: pydicom.Dataset) -> str:
    (gradient,) = diffusion.get("DiffusionGradientDirectionSequence") or [pydicom.Dataset()]
    return slices.text(gradient, "DiffusionGradientOrientation")


def _dimensions(content: pydicom.Dataset, header: pydicom.Dataset) -> str:
    """A frame's index along each dimension except its position."""
    pointers = [item.get("DimensionIndexPointer") for item in header.get("DimensionIndexSequence") or ()]
    indices = content.get("DimensionIndexValues")
    values = [indices] if isinstance(indices, int) else list(indices or ())
    return "/".join(str(v) for tag, v in zip(pointers, values, strict=False) if tag not in _PLACE_DIMENSIONS)
