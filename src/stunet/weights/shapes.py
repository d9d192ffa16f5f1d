"""The shapes of a network's tensors, and how they differ from those that it expects, as a table for people."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch

Shape = tuple[int, ...]

SHOWN_MISMATCHES = 12
"""Rows of the table that reports wrong shapes; the rest are counted."""


def shapes_of(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Shape]:
    """The shape of every tensor."""
    return {key: tuple(tensor.shape) for key, tensor in state_dict.items()}


def mismatches(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> str:
    """A table of the tensors that differ, are missing or do not belong; "" where all fit.

    >>> print(mismatches({"a": (2, 3), "b": (4,)}, {"a": (2, 5), "b": (4,)}))
    tensor  expected  found
    a       2 x 3     2 x 5
    """
    wrong = [(key, expected[key], found[key]) for key in expected if key in found and expected[key] != found[key]]
    missing = [(key, shape, None) for key, shape in expected.items() if key not in found]
    foreign = [(key, None, shape) for key, shape in found.items() if key not in expected]
    rows = [
        (key, _shown(left, "nothing"), _shown(right, "missing"))
        for key, left, right in cast(Sequence[tuple[str, Shape | None, Shape | None]], wrong + foreign + missing)
    ]
    return _table(("tensor", "expected", "found"), rows) if rows else ""


def _shown(shape: Shape | None, absent: str) -> str:
    return absent if shape is None else " x ".join(map(str, shape)) or "a single number"


def _table(title: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    shown = [title, *rows[:SHOWN_MISMATCHES]]
    widths = [max(len(row[column]) for row in shown) for column in range(len(title))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]
    if len(rows) > SHOWN_MISMATCHES:
        lines.append(f"... and {len(rows) - SHOWN_MISMATCHES} more")
    return "\n".join(lines)
