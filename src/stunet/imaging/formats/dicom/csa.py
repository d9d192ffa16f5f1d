"""Siemens' own header within a DICOM header ("CSA"): named values. A few of them describe how an image is tiled.

Only its second version (SV10, since about 2000) is read.
"""

import struct

_MARK = b"SV10"
_MAX_NAMES = 1000
_MAX_VALUES = 10_000
_NAME = struct.Struct("<64s4x4s4xi4x")
_VALUE = struct.Struct("<4xi8x")
_FIRST_NAME = 16
"""The mark, four bytes of another mark, the number of names, and four unused bytes."""


def read_csa(content: bytes) -> dict[str, list[str]]:
    """The values of each name, as text.

    Args:
        content: of the element.

    Raises:
        ValueError: content of another form, or content that ends too early.

    >>> read_csa(b"SV10" + bytes(12))
    {}
    """
    if content[:4] != _MARK:
        raise ValueError("no CSA header of the second version")
    try:
        return _values(content)
    except struct.error as error:
        raise ValueError("the CSA header ends too early") from error


def _values(content: bytes) -> dict[str, list[str]]:
    (names,) = struct.unpack_from("<I", content, 8)
    if names > _MAX_NAMES:
        raise ValueError(f"{names} names")
    found: dict[str, list[str]] = {}
    at = _FIRST_NAME
    for _ in range(names):
        name, _, count = _NAME.unpack_from(content, at)
        if not 0 <= count <= _MAX_VALUES:
            raise ValueError(f"{count} values")
        at += _NAME.size
        values = []
        for _ in range(count):
            (length,) = _VALUE.unpack_from(content, at)
            at += _VALUE.size
            if not 0 <= length <= len(content) - at:
                raise ValueError(f"a value of {length} bytes")
            values.append(_text(content[at : at + length]))
            at += length + -length % 4
        found[_text(name)] = [value for value in values if value]
    return found


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("latin-1").strip()
