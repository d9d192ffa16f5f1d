"""Strategies that damage headers of images: fields of NIfTI, lines of NRRD and MetaImage."""

import gzip
import struct

import nibabel
from hypothesis import strategies as st

from tests.fuzz.damage import Draw, damaged_bytes, odd_integers, odd_numbers, odd_values


@st.composite
def damaged_nifti(draw: Draw, content: bytes) -> bytes:
    """A NIfTI header with odd fields, then perhaps compressed."""
    header = bytearray(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    fields = nibabel.Nifti1Header.template_dtype.fields
    assert fields is not None
    for _ in range(draw(st.integers(1, 5))):
        name = draw(st.sampled_from(sorted(fields)))
        kind, offset = fields[name][:2]
        number = draw(st.integers(0, max(0, (kind.shape or (1,))[0] - 1)))
        place, letter = offset + number * kind.base.itemsize, kind.base.char
        value = draw(odd_numbers if letter in "fd" else odd_integers)
        if letter == "S":
            header[place : place + kind.itemsize] = draw(st.binary(min_size=kind.itemsize, max_size=kind.itemsize))
        elif letter in "fd":
            header[place : place + kind.base.itemsize] = _packed_number(letter, value)
        else:
            size = kind.base.itemsize
            header[place : place + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
    return gzip.compress(bytes(header), 1, mtime=0) if content[:2] == b"\x1f\x8b" else bytes(header)


def _packed_number(letter: str, value: float) -> bytes:
    try:
        return struct.pack(f"<{letter}", value)
    except OverflowError:
        return struct.pack(f"<{letter}", float("inf"))


@st.composite
def damaged_text_header(draw: Draw, content: bytes, end: bytes = b"\n\n") -> bytes:
    """A header of lines such as `sizes: 4 5 6` or `DimSize = 4 5 6` with odd, missing, repeated or further lines."""
    header, found, voxels = content.partition(end)
    lines = header.split(b"\n")
    for _ in range(draw(st.integers(1, 4))):
        if not lines:
            break
        number = draw(st.integers(0, len(lines) - 1))
        act = draw(st.sampled_from(("value", "value", "word", "remove", "repeat", "bytes")))
        separator = b" = " if b" = " in lines[number] else b": "
        name, _, value = lines[number].partition(separator)
        if act == "value":
            lines[number] = name + separator + str(draw(odd_values)).encode("utf-8", "replace")
        elif act == "word":
            words = value.split(b" ")
            words[draw(st.integers(0, len(words) - 1))] = str(draw(odd_values)).encode("utf-8", "replace")
            lines[number] = name + separator + b" ".join(words)
        elif act == "remove":
            del lines[number]
        elif act == "repeat":
            lines.insert(number, lines[draw(st.integers(0, len(lines) - 1))])
        else:
            lines[number] = draw(damaged_bytes(lines[number])) if lines[number] else b""
    return b"\n".join(lines) + found + voxels
