"""An evaluation as a file: JSON holds everything, CSV every score, Markdown and LaTeX the tables to print."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

from stunet.errors import UserError
from stunet.evaluation.metrics import METRICS
from stunet.evaluation.result import EvaluationResult, number
from stunet.evaluation.tables import Table, tables
from stunet.files import replacing

ROWS_OF_A_PAGE = 45
"""Longer tables run over pages in LaTeX."""


def as_json(result: EvaluationResult) -> str:
    """Every score, mean, interval, test and setting; nan is null."""
    return json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n"


def as_csv(result: EvaluationResult) -> str:
    """One line for each system, case and label, with its metrics; empty where the label is absent from both."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    metrics = result.report.config.metrics
    writer.writerow(["system", "case", "label", *(METRICS[metric].heading for metric in metrics)])
    systems = [(result.system, result.report)]
    if result.opponent is not None:
        systems.append((result.opponent.system, result.opponent.report))
    for system, report in systems:
        for case in report.cases:
            for label, name in report.names.items():
                values = (case.scores[metric].get(label, float("nan")) for metric in metrics)
                writer.writerow([system, case.case, name, *map(number, values)])
    return text.getvalue()


def as_markdown(result: EvaluationResult) -> str:
    """The tables, and how to read them."""
    return "\n".join([*map(_markdown_table, tables(result)), *(f"{note}\n" for note in notes(result))])


def _markdown_table(table: Table) -> str:
    lines = [table.columns, ["---", *["---:"] * (len(table.columns) - 1)], *table.rows]
    cells = ("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"**{table.title}**\n\n" + "\n".join(cells) + "\n"


def as_latex(result: EvaluationResult) -> str:
    """The tables, for a document that loads `booktabs` and `longtable`, and as comments how to read them."""
    return "\n".join([*(f"% {note}" for note in notes(result)), *map(_latex_table, tables(result))])


def _latex_table(table: Table) -> str:
    heading, *rows = (" & ".join(map(_latex, row)) + r" \\" for row in (table.columns, *table.rows))
    body = [r"\toprule", heading, r"\midrule", *rows, r"\bottomrule"]
    columns = "l" + "r" * (len(table.columns) - 1)
    caption = rf"\caption{{{_latex(table.title)}}}"
    if len(rows) > ROWS_OF_A_PAGE:
        lines = [rf"\begin{{longtable}}{{{columns}}}", caption + r" \\", *body, r"\end{longtable}"]
    else:
        tabular = [rf"\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}"]
        lines = [r"\begin{table}", r"\centering", caption, *tabular, r"\end{table}"]
    return "\n".join(lines) + "\n"


_LATEX = str.maketrans(
    {c: rf"\{c}" for c in "&%$#_{}"} | {"<": "$<$", ">": "$>$", "~": r"\textasciitilde{}", "\\": r"\textbackslash{}"}
)


def _latex(text: str) -> str:
    r"""Text with the characters escaped that LaTeX reads otherwise.

    >>> _latex("kidney_left, 95%")
    'kidney\\_left, 95\\%'
    """
    return text.translate(_LATEX)


def notes(result: EvaluationResult) -> list[str]:
    """What must be said of the numbers: empty cases, tolerances, intervals and tests."""
    said = []
    for metric in (summary.metric for summary in result.summaries):
        said.append(
            f"{metric.title}: a label absent from prediction and reference is not counted; absent from one of them it "
            f"counts {metric.if_missed}."
        )
        if metric.has_tolerance:
            said.append(f"{metric.title}: {result.report.config.tolerances.told(result.report.names.values())}.")
    bootstrap = result.bootstrap
    said.append(f"Intervals: percentile bootstrap over cases, {bootstrap.resamples} resamples, seed {bootstrap.seed}.")
    if result.opponent is not None:
        said.append(
            "p: Wilcoxon's signed-rank test over cases, two-sided; that of a label is corrected for the number of "
            "labels by Holm's method."
        )
    if result.mapped is not None:
        said += result.mapped.remarks
    return said


WRITERS: dict[str, Callable[[EvaluationResult], str]] = {
    ".json": as_json,
    ".csv": as_csv,
    ".md": as_markdown,
    ".tex": as_latex,
}
"""Suffix of the file to what is written there."""


def check_report_path(path: Path) -> None:
    """Refuse a report that could not be written, before anything is computed.

    Raises:
        UserError: unknown suffix, or no such folder.
    """
    if path.suffix.lower() not in WRITERS:
        raise UserError(f"{path}: a report ends in {', '.join(WRITERS)}.")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: there is no such folder to write the report to. Make it first.")


def write_report(result: EvaluationResult, path: Path) -> None:
    """Write an evaluation in the format that the suffix names.

    Raises:
        UserError: as for `check_report_path`, and a file that cannot be written.
    """
    check_report_path(path)
    with replacing(path) as temporary:
        temporary.write_text(WRITERS[path.suffix.lower()](result), encoding="utf-8")
