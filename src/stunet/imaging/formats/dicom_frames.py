"""The functional groups of many frames as bytes.

A segmentation has a frame for each structure on each slice. Frames of one slice share its position and source image,
and frames of one structure share its number. Each of these is encoded once, by pydicom.
"""

from collections.abc import Hashable, Iterable
from struct import pack

import pydicom
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import ItemTag, Tag

FRAMES = Tag("PerFrameFunctionalGroupsSequence")
_POSITION = Tag("PlanePositionSequence")
_SEGMENT = Tag("SegmentIdentificationSequence")
_SOURCE = Tag("DerivationImageSequence")


def encode_frames(frames: Iterable[pydicom.Dataset]) -> RawDataElement:
    """Encode the functional groups of frames, explicit VR little endian.

    The bytes are those that pydicom writes. Text must be ASCII.

    Args:
        frames: items of a PerFrameFunctionalGroupsSequence, made by highdicom: frames of one slice share the objects of
            position and source image.

    Returns:
        The whole sequence, which pydicom writes as it is.
    """
    encoded: dict[Hashable, bytes] = {}
    value = b"".join(_item(frame, encoded) for frame in frames)
    return RawDataElement(FRAMES, "SQ", len(value), value, 0, False, True)


def _item(frame: pydicom.Dataset, encoded: dict[Hashable, bytes]) -> bytes:
    """The bytes of one frame; those of its groups are looked up in `encoded`, and added to it."""
    groups = []
    for tag in sorted(frame.keys()):
        element = frame[tag]
        key = _key(element)
        if key is None:
            groups.append(_encode(element))
        else:
            if key not in encoded:
                encoded[key] = _encode(element)
            groups.append(encoded[key])
    content = b"".join(groups)
    return pack("<HHL", ItemTag.group, ItemTag.element, len(content)) + content


def _key(element: DataElement) -> Hashable:
    """What distinguishes the groups of one kind; None if every frame has its own."""
    if element.tag == _POSITION:
        return _POSITION, id(element.value[0])
    if element.tag == _SEGMENT:
        return _SEGMENT, int(element.value[0].ReferencedSegmentNumber)
    if element.tag == _SOURCE:
        return _SOURCE, *(id(source) for source in element.value[0].SourceImageSequence)
    return None


def _encode(element: DataElement) -> bytes:
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = False, True
    write_data_element(file, element)
    return file.getvalue()
