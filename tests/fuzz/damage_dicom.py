"""Strategies that damage elements of DICOM files, and members of zip archives."""

import io
import struct
import warnings
import zipfile
from typing import Any

import pydicom
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence as Items

from tests.fuzz.damage import Draw, damaged_bytes, odd_integers, odd_numbers, odd_texts


@st.composite
def damaged_dicom(draw: Draw, content: bytes) -> bytes:
    """A DICOM file with elements that are missing, odd or of another length."""
    if draw(st.integers(0, 4)) == 0:
        return draw(damaged_bytes(content))
    dataset = pydicom.dcmread(io.BytesIO(content))
    for _ in range(draw(st.integers(1, 4))):
        place = dataset
        while items := _items(place, tag := draw(st.sampled_from(sorted(place.keys()) or [None]))):
            if draw(st.integers(0, 4)) == 0:
                break
            place = draw(st.sampled_from(items))
        if tag is not None:
            draw(_odd_element(place, tag))
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=False)
    return buffer.getvalue()


@st.composite
def _odd_element(draw: Draw, dataset: pydicom.Dataset, tag: Any) -> None:
    items = _items(dataset, tag)
    element = dataset.get_item(tag)
    if draw(st.integers(0, 3)) == 0:
        del dataset[tag]
    elif items:
        dataset[tag].value = Items(draw(st.sampled_from(([], items * 2, items[:1], items[::-1]))))
    else:
        value = draw(_odd_content(element.VR))
        dataset[tag] = RawDataElement(element.tag, element.VR, len(value), value, 0, False, True)


def _items(dataset: pydicom.Dataset, tag: Any) -> list[pydicom.Dataset]:
    """The items of an element that is a sequence; otherwise none."""
    is_sequence = tag is not None and dataset.get_item(tag).VR == "SQ"
    return list(dataset[tag].value) if is_sequence else []


def _odd_content(representation: str) -> st.SearchStrategy[bytes]:
    if representation in ("US", "SS", "UL", "SL", "OW", "OB"):
        return st.one_of(
            st.sampled_from(
                (b"", b"\0\0", b"\1\0", b"\xff\xff", b"\0\x80", b"\1\0\0\0", b"\xff\xff\xff\xff", b"\0" * 12)
            ),
            st.integers(0, 65535).map(lambda number: number.to_bytes(2, "little")),
        )
    if representation in ("FD", "FL"):
        return odd_numbers.map(lambda number: struct.pack("<d", number))
    texts = st.one_of(
        odd_numbers.map(repr), odd_integers.map(str), odd_texts, st.sampled_from(("1\\0", "1\\0\\0\\0\\1\\0"))
    )
    return st.lists(texts, min_size=1, max_size=6).map(
        lambda all: _even("\\".join(all).encode("utf-8", "replace")[:2000])
    )


def _even(content: bytes) -> bytes:
    return content + b" " * (len(content) % 2)


@st.composite
def damaged_zip(draw: Draw, content: bytes) -> bytes:
    """A zip archive with odd names, kinds, sizes and contents of its members, or damaged bytes."""
    if draw(st.integers(0, 2)) == 0:
        return draw(damaged_bytes(content, len(content)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for entry in old.infolist():
            member = old.read(entry)
            act = draw(st.sampled_from(("keep", "keep", "name", "kind", "content", "twice")))
            name = entry.filename
            if act == "name":
                name = draw(
                    st.sampled_from(
                        ("../x", "/x", "a\\..\\x", "C:x", ".", "d/", "x" * 300, "ö", "a.zip", "a.gz", "DICOMDIR")
                    )
                )
            named = zipfile.ZipInfo(name)
            named.compress_type = draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)))
            named.external_attr = (draw(st.sampled_from((0o120777, 0o020666, 0o644))) << 16) if act == "kind" else 0
            member = draw(damaged_dicom(member)) if act == "content" else member
            for _ in range(2 if act == "twice" else 1):
                new.writestr(named, member)
    return buffer.getvalue()
