"""A results file becomes tables: Markdown and LaTeX to be read, CSV to be computed with."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from stunet.experiments.file_names import file_name_of
from stunet.experiments.results import Results, read_results
from stunet.experiments.table_layout import ABSENT, Table, table_of
from stunet.files import made_folder, replacing

CSV_COLUMNS = ("target", "metric", "paper", "ours", "difference", "agrees", "source", "cases")
"""After the system and its settings; `agrees` tells whether both are equal to the paper's last digit."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


def write_tables(results_path: Path, output_folder: Path) -> list[Path]:
    """Write the tables of a results file.

    Args:
        results_path: of the results file.
        output_folder: gets a .md, a .csv and a .tex file, named by `file_name_of`.

    Returns:
        The files.

    Raises:
        UserError: no results file, one without measurements, or a folder that cannot be written.
    """
    results = read_results(results_path)
    table = table_of(results)
    texts = {"md": to_markdown(table), "csv": to_csv(results), "tex": to_latex(table)}
    folder = made_folder(output_folder)
    paths = []
    for kind, text in texts.items():
        paths.append(folder / f"{file_name_of(results)}.{kind}")
        with replacing(paths[-1]) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return paths


def to_markdown(table: Table) -> str:
    """The table, its title above and its remarks below."""
    marks = ["---"] * table.labels + ["---:"] * (len(table.header) - table.labels)
    lines = [_markdown_line(line) for line in (table.header, marks, *table.rows)]
    remarks = [f"- {remark}" for remark in table.remarks]
    return "\n".join([f"**{table.title}**", "", *lines, "", *remarks]) + "\n"


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|").replace("*", r"\*") for cell in cells) + " |"


def to_latex(table: Table) -> str:
    """A `table` with booktabs' rules; the remarks are part of the caption."""
    columns = "l" * table.labels + "r" * (len(table.header) - table.labels)
    caption = " ".join(_latex(text) for text in (f"{table.title}.", *table.remarks))
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{caption}}}",
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            _latex_line(table.header),
            "\\midrule",
            *(_latex_line(row) for row in table.rows),
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
            "",
        ]
    )


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(_latex_number(cell) for cell in cells) + r" \\"


def _latex_number(cell: str) -> str:
    """Signs of numbers are set as mathematics, so that a minus is no hyphen."""
    has_sign = cell[:1] in {"-", "+"} and cell != ABSENT
    return f"${cell[0]}${_latex(cell[1:])}" if has_sign else _latex(cell)


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


def to_csv(results: Results) -> str:
    """One line for each measurement, in the units of the results file and with all digits."""
    keys = list(dict.fromkeys(key for m in results.measurements for key in m.setting))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("system", *keys, *CSV_COLUMNS))
    for m in results.measurements:
        settings = (m.setting.get(key) for key in keys)
        cases = sum(value is not None for value in m.cases.values())
        writer.writerow(
            (m.system, *settings, m.target, m.metric, m.paper, m.value, m.difference, m.agrees, m.source, cases)
        )
    return text.getvalue()
