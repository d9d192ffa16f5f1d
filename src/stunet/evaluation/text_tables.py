"""Tables of texts, written as Markdown, LaTeX or CSV: the one place that knows what each format reads as commands.

It does not know what the tables are about.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ROWS_OF_A_PAGE = 45
"""Longer tables run over pages in LaTeX."""

_MARKDOWN_COMMANDS = re.compile(r"[\\|*`~]|(?<!\w)_|_(?!\w)|<(?=[\w/!?])|&(?=#?\w+;)|\](?=\()")
"""What Markdown would not show as it is; an underscore or "<" only where it starts markup."""

_LATEX_COMMANDS = str.maketrans(
    {letter: f"\\{letter}" for letter in "&%$#_{}"}
    | {"<": "$<$", ">": "$>$", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "\\": r"\textbackslash{}"}
)


@dataclass(frozen=True)
class TextTable:
    """Names and numbers as text.

    Attributes:
        title: above it.
        columns: headings.
        rows: cells, as many as there are columns.
        labels: how many columns at the left name the row; the others are numbers.
        notes: sentences to read with it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1
    notes: tuple[str, ...] = ()


def to_markdown(tables: Iterable[TextTable], notes: Sequence[str] = ()) -> str:
    """Each table with its title above and its notes below; then a paragraph for each note on all of them."""
    return "\n".join([*map(_markdown_table, tables), *(f"{_markdown(note)}\n" for note in notes)])


def _markdown_table(table: TextTable) -> str:
    marks = ["---"] * table.labels + ["---:"] * (len(table.columns) - table.labels)
    lines = [map(_markdown, table.columns), marks, *(map(_markdown, row) for row in table.rows)]
    text = f"**{_markdown(table.title)}**\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return text + "\n" * bool(table.notes) + "".join(f"- {_markdown(note)}\n" for note in table.notes)


def _markdown(text: str) -> str:
    r"""One line that shows `text`.

    >>> print(_markdown("nnU-Net*, kidney_left\n_|_"))
    nnU-Net\*, kidney_left \_\|\_
    """
    return _MARKDOWN_COMMANDS.sub(r"\\\g<0>", _one_line(text))


def to_latex(tables: Iterable[TextTable], comments: Sequence[str] = ()) -> str:
    """Each table with its notes in the caption, for a document that loads `booktabs`, and `longtable` for long ones.

    Comments stand above all tables.
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
    """The signs of numbers are mathematics, so that a minus is no hyphen.

    A row does not begin with a star or bracket, which LaTeX would take for options of the end of the row before.
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
    return " ".join(text.splitlines())


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lines of values, with all digits; what is None is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *rows])
    return text.getvalue()
