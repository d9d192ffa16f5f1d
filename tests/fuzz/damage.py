"""Strategies that damage any bytes, and odd values for other strategies."""

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

Files = Mapping[str, bytes]
"""Content by path in a folder."""

Draw = Callable[[st.SearchStrategy[Any]], Any]

ODD_INTEGERS = (
    -1,
    0,
    1,
    2,
    7,
    127,
    128,
    255,
    256,
    32767,
    65535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    -(2**31),
    10**9,
)
ODD_NUMBERS = (0.0, -0.0, 1e-320, 1e-9, 1e30, 1e308, -1.0, float("inf"), float("-inf"), float("nan"), 0.5, 3.0)
ODD_TEXTS = (
    "",
    " ",
    "0",
    "-1",
    "nan",
    "1e999",
    "x" * 300,
    "\x00",
    "../../etc/passwd",
    "/dev/zero",
    "ö測",
    "\ud800",
    "true",
)
ODD_VALUES = (
    None,
    True,
    False,
    [],
    {},
    [[]],
    [0],
    [-1],
    ["x"],
    {"": 0},
    [None] * 3,
    [1e308] * 3,
    [[1, 1, 1]] * 6,
    [[2] * 3],
)

odd_integers = st.one_of(st.sampled_from(ODD_INTEGERS), st.integers(-(2**63), 2**63 - 1))
odd_numbers = st.one_of(st.sampled_from(ODD_NUMBERS), st.floats())
odd_texts = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=20))
odd_values = st.one_of(st.sampled_from(ODD_VALUES), odd_integers, odd_numbers, odd_texts)


@st.composite
def damaged_bytes(draw: Draw, content: bytes, head: int = 4096) -> bytes:
    """Overwritten, removed, inserted, repeated or cut bytes, most of them within the first `head`."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        if not changed:
            break
        place = draw(st.integers(0, min(head, len(changed)) - 1) | st.integers(0, len(changed) - 1))
        act = draw(st.sampled_from(("set", "set", "number", "remove", "insert", "repeat", "cut")))
        length = draw(st.integers(1, 16))
        if act == "set":
            changed[place] = draw(st.integers(0, 255))
        elif act == "number":
            number = draw(odd_integers) % 2**64
            size = draw(st.sampled_from((1, 2, 4, 8)))
            changed[place : place + size] = (number % 2 ** (8 * size)).to_bytes(
                size, draw(st.sampled_from(("little", "big")))
            )
        elif act == "remove":
            del changed[place : place + length]
        elif act == "insert":
            changed[place:place] = draw(st.binary(min_size=1, max_size=16))
        elif act == "repeat":
            changed[place:place] = bytes(changed[place : place + length]) * draw(st.integers(1, 50))
        else:
            del changed[place:]
    return bytes(changed)


@st.composite
def damaged_file(
    draw: Draw, files: Files, damaged: Callable[[bytes], st.SearchStrategy[bytes]] = damaged_bytes
) -> Files:
    """One of the files, damaged."""
    name = draw(st.sampled_from(sorted(files)))
    return {**files, name: draw(damaged(files[name]))}
