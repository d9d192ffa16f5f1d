"""The tables of the paper's text, where it lies beside the repository."""

import html
import re
from pathlib import Path

import pytest

TABLES = 9


def read_tables(shared_data: Path) -> dict[int, list[list[str]]]:
    """Number of the table -> its rows, header first, as texts without marks; skips the test where there is no paper."""
    path = shared_data.parent / "paper" / "stu-net-paper.md"
    if not path.is_file():
        pytest.skip(f"no {path}")
    tables = re.findall(r"<table.*?</table>", path.read_text(encoding="utf-8"), flags=re.S)
    assert len(tables) == TABLES
    return {number: [_cells(row) for row in re.findall(r"<tr>(.*?)</tr>", table, flags=re.S)]
            for number, table in enumerate(tables, start=1)}  # fmt: skip


def _cells(row: str) -> list[str]:
    return [_plain(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.S)]


def _plain(cell: str) -> str:
    """Without tags, footnote marks and references.

    >>> _plain("<b>87.12</b>"), _plain("UNETR-S [13]"), _plain("SwinUNETR-L<math>^\\\\dagger</math> [12]")
    ('87.12', 'UNETR-S', 'SwinUNETR-L')
    """
    text = re.sub(r"<math>.*?</math>|<sup>.*?</sup>", "", cell)
    text = html.unescape(re.sub(r"<[^>]+>", "", text))
    return re.sub(r"\s*\[[\d, ]+\]$", "", text.strip())
