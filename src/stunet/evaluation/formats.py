"""Write an evaluation to a file: JSON contains everything, CSV all scores, Markdown and LaTeX the tables."""

import math
from collections.abc import Callable
from pathlib import Path

from stunet import files
from stunet.errors import OutputError
from stunet.evaluation.dice import none_if_nan
from stunet.evaluation.metrics import METRICS
from stunet.evaluation.result import EvaluationResult
from stunet.evaluation.tables import notes, tables
from stunet.evaluation.text_tables import to_csv, to_latex, to_markdown


def as_json(result: EvaluationResult) -> str:
    """Every score, mean, interval, test and setting; nan is null."""
    return files.as_json(result.to_dict()) + "\n"


def as_csv(result: EvaluationResult) -> str:
    """One line per system, case and label, with all metrics; empty if the label is absent from both."""
    metrics = result.report.config.metrics
    systems = [(result.system, result.report)]
    if result.opponent is not None:
        systems.append((result.opponent.system, result.opponent.report))
    scores = (
        (system, case.case, name, *(none_if_nan(case.scores[metric].get(label, math.nan)) for metric in metrics))
        for system, report in systems
        for case in report.cases
        for label, name in report.names.items()
    )
    return to_csv(("system", "case", "label", *(METRICS[metric].heading for metric in metrics)), scores)


def as_markdown(result: EvaluationResult) -> str:
    """The tables and notes on how to read them."""
    return to_markdown(tables(result), notes(result))


def as_latex(result: EvaluationResult) -> str:
    """The tables, for a document that loads `booktabs` and `longtable`, and notes as comments."""
    return to_latex(tables(result), notes(result))


WRITERS: dict[str, Callable[[EvaluationResult], str]] = {
    ".json": as_json,
    ".csv": as_csv,
    ".md": as_markdown,
    ".tex": as_latex,
}
"""Suffix of the file to its writer."""


def check_report_path(path: Path) -> None:
    """Check before any computation that a report can be written.

    Raises:
        UserError: the suffix is unknown, or the file cannot be written.
    """
    if path.suffix.lower() not in WRITERS:
        raise OutputError(f"{path}: a report ends in {', '.join(WRITERS)}.")
    files.require_output(path)


def write_report(result: EvaluationResult, path: Path) -> None:
    """Write an evaluation in the format of the suffix. The folder is created if missing.

    Raises:
        UserError: as for `check_report_path`, or the file cannot be written.
    """
    check_report_path(path)
    files.made_folder(path.parent)
    with files.replacing(path) as temporary:
        temporary.write_text(WRITERS[path.suffix.lower()](result), encoding="utf-8")
