"""Write tables of text as Markdown, LaTeX or CSV, and escape each format's special characters.

This file does not depend on the content of the tables.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stunet.files import printable

ROWS_OF_A_PAGE = 45
"""Longer tables span several pages in LaTeX."""

_MARKDOWN_COMMANDS = re.compile(r"[\\|*`~]|(?<!\w)_|_(?!\w)|<(?=[\w/!?])|&(?=#?\w+;)|\](?=\()")
"""Characters that Markdown would interpret; an underscore or "<" only if it starts markup."""

_LATEX_COMMANDS = str.maketrans(
    {letter: f"\\{letter}" for letter in "&%$#_{}"}
    | {"<": "$<$", ">": "$>$", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "\\": r"\textbackslash{}"}
)


@dataclass(frozen=True)
class TextTable:
    """Names and numbers as text.

    Attributes:
        title: title above the table.
        columns: headings.
        rows: cells, one per column.
        labels: number of columns at the left that name the row; the others are numbers.
        notes: sentences below the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1
    notes: tuple[str, ...] = ()


def to_markdown(tables: Iterable[TextTable], notes: Sequence[str] = ()) -> str:
    """Each table with its title above and its notes below; then one paragraph per general note."""
    return "\n".join([*map(_markdown_table, tables), *(f"{_markdown(note)}\n" for note in notes)])


def _markdown_table(table: TextTable) -> str:
    marks = ["---"] * table.labels + ["---:"] * (len(table.columns) - table.labels)
    lines = [map(_markdown, table.columns), marks, *(map(_markdown, row) for row in table.rows)]
    text = f"**{_markdown(table.title)}**\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return text + "\n" * bool(table.notes) + "".join(f"- {_markdown(note)}\n" for note in table.notes)


def _markdown(text: str) -> str:
    r"""One line of Markdown that shows `text`.

    >>> print(_markdown("nnU-Net*, kidney_left\n_|_"))
    nnU-Net\*, kidney_left \_\|\_
    """
    return _MARKDOWN_COMMANDS.sub(r"\\\g<0>", _one_line(text))


def to_latex(tables: Iterable[TextTable], comments: Sequence[str] = ()) -> str:
    """Each table with its notes in the caption, for a document that loads `booktabs`, and `longtable` for long tables.

    Comments come before all tables.
    """
    return "\n".join([*(f"% {_one_line(comment)}" for comment in comments), *map(_latex_table, tables)])


def _latex_table(table: TextTable) -> str:
    heading, *rows = (_latex_row(row, table.labels) for row in (table.columns, *table.rows))
    body = [r"\toprule", heading, r"\midrule", *rows, r"\bottomrule"]
    columns = "l" * table.labels + "r" * (len(table.columns) - table.labels)
    told = (f"{table.title}.", *table.notes) if table.notes else (table.title,)
    caption = rf"\caption{{{' '.join(map(_latex, told))}}}"
    if len(rows) > ROWS_OF_A_PAGE:
        lines = [rf"\begin{{longtable}}{{{columns}}}", caption + r" \\", *body, r"\end{longtable}"]
    else:
        tabular = [rf"\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}"]
        lines = [r"\begin{table}", r"\centering", caption, *tabular, r"\end{table}"]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Sequence[str], labels: int) -> str:
    """One row. Signs of numbers are in math mode, so that a minus is not a hyphen.

    A star or bracket at the beginning is wrapped in braces, because LaTeX would read it as an option of the previous
    row's end.
    """
    names = map(_latex, cells[:labels])
    numbers = (re.sub(r"(?<!\w)[-+](?=\d)", r"$\g<0>$", _latex(cell)) for cell in cells[labels:])
    row = " & ".join([*names, *numbers])
    return (f"{{{row[0]}}}{row[1:]}" if row[:1] in {"*", "["} else row) + r" \\"


def _latex(text: str) -> str:
    r"""
    >>> _latex("kidney_left, 95%")
    'kidney\\_left, 95\\%'
    """
    return _one_line(text).translate(_LATEX_COMMANDS)


def _one_line(text: str) -> str:
    return printable(" ".join(text.splitlines()))


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lines of values with all digits; None is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *rows])
    return printable(text.getvalue())
