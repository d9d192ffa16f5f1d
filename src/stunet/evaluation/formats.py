"""An evaluation as a file: JSON holds everything, CSV every score, Markdown and LaTeX the tables to print."""

import json
import math
from collections.abc import Callable
from pathlib import Path

from stunet.errors import OutputError
from stunet.evaluation.dice import none_if_nan
from stunet.evaluation.metrics import METRICS
from stunet.evaluation.result import EvaluationResult
from stunet.evaluation.tables import notes, tables
from stunet.evaluation.text_tables import to_csv, to_latex, to_markdown
from stunet.files import replacing


def as_json(result: EvaluationResult) -> str:
    """Every score, mean, interval, test and setting; nan is null."""
    return json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n"


def as_csv(result: EvaluationResult) -> str:
    """One line for each system, case and label, with its metrics; empty where the label is absent from both."""
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
    """The tables, and how to read them."""
    return to_markdown(tables(result), notes(result))


def as_latex(result: EvaluationResult) -> str:
    """The tables, for a document that loads `booktabs` and `longtable`, and as comments how to read them."""
    return to_latex(tables(result), notes(result))


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
        raise OutputError(f"{path}: a report ends in {', '.join(WRITERS)}.")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent}: there is no such folder to write the report to. Make it first.")


def write_report(result: EvaluationResult, path: Path) -> None:
    """Write an evaluation in the format that the suffix names.

    Raises:
        UserError: as for `check_report_path`, and a file that cannot be written.
    """
    check_report_path(path)
    with replacing(path) as temporary:
        temporary.write_text(WRITERS[path.suffix.lower()](result), encoding="utf-8")
