"""Write tables of a results file with the paper's numbers next to ours: Markdown and LaTeX to read, CSV to process."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stunet.errors import UserError
from stunet.evaluation.text_tables import ROWS_OF_A_PAGE, TextTable, to_csv, to_latex, to_markdown
from stunet.experiments.results import Measurement, Results, file_name_of, read_results
from stunet.files import made_folder, replacing

CSV_COLUMNS = ("target", "metric", "paper", "ours", "difference", "agrees", "source", "cases")
"""Columns after the system and its settings. `agrees` says whether both are equal to the paper's last digit."""

PERCENT = ("DSC", "NSD")
"""Metrics stored as fractions and shown in percent."""

MOST_BESIDE = 3
"""Up to this many columns show the paper's number, ours and the difference side by side; more use three rows."""

NO_NUMBER = "-"
"""Printed for a missing number."""

MOST_ACROSS = 10
"""With more targets than this, targets become rows and systems become columns."""

RowName = tuple[str, ...]
"""A system and its settings, as text."""

Column = tuple[str | None, str]
"""Target and metric."""

Cells = Mapping[tuple[RowName, Column], Measurement]


@dataclass(frozen=True)
class _Grid:
    """Measurements in rows.

    Attributes:
        names: titles of the columns that name a row.
        titles: titles of the number columns.
        rows: row name -> its measurements, None if there is none.
    """

    names: RowName
    titles: tuple[str, ...]
    rows: Mapping[RowName, Sequence[Measurement | None]]


def write_tables(results_path: Path, output_folder: Path) -> list[Path]:
    """Write the tables of a results file.

    Args:
        results_path: of the results file.
        output_folder: for a .md, a .csv and a .tex file, named by `file_name_of`.

    Returns:
        The files.

    Raises:
        UserError: the results file does not exist or has no measurements, or the folder cannot be written.
    """
    results = read_results(results_path)
    table = table_of(results)
    packages = ["booktabs"] + ["longtable"] * (len(table.rows) > ROWS_OF_A_PAGE)
    needed = [f"needs \\usepackage{{{package}}}" for package in packages]
    texts = {"md": to_markdown([table]), "csv": csv_of(results), "tex": to_latex([table], needed)}
    folder = made_folder(output_folder)
    paths = []
    for kind, text in texts.items():
        paths.append(folder / f"{file_name_of(results)}.{kind}")
        with replacing(paths[-1]) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return paths


def csv_of(results: Results) -> str:
    """One line per measurement, in the units of the results file and with all digits."""
    keys = _setting_keys(results)
    rows = (
        (
            *(m.system, *(m.setting.get(key) for key in keys), m.target, m.metric),
            *(m.paper, m.value, m.difference, m.agrees, m.source),
            sum(value is not None for value in m.cases.values()),
        )
        for m in results.measurements
    )
    return to_csv(("system", *keys, *CSV_COLUMNS), rows)


def table_of(results: Results) -> TextTable:
    """The results as a table: one row, or three, per system and setting. The columns are targets and metrics.

    Raises:
        UserError: there are no measurements, or two for the same cell.
    """
    if not results.measurements:
        raise UserError(f"The results of {results.experiment} have no measurements yet.")
    grid = _grid(results)
    layout = _beside if len(grid.titles) <= MOST_BESIDE else _below
    header, rows = layout(grid)
    metrics = ", ".join(dict.fromkeys(_metric_title(m.metric) for m in results.measurements))
    title = f"{results.experiment}, profile {results.profile}: {metrics}"
    return TextTable(title, tuple(header), tuple(rows), len(grid.names) + (layout is _below), _notes(results))


def _grid(results: Results) -> _Grid:
    """Systems as rows and targets as columns, or the reverse if there are many targets."""
    keys = _setting_keys(results)
    cells = _cells(results, keys)
    columns = list(dict.fromkeys(column for _, column in cells))
    rows = {name: [cells.get((name, column)) for column in columns] for name, _ in cells}
    titles = tuple(column_title(column, columns) for column in columns)
    if len(columns) > MOST_ACROSS:
        systems = tuple(", ".join(filter(None, name)) for name in rows)
        targets = zip(titles, zip(*rows.values(), strict=True), strict=True)
        return _Grid(("target",), systems, {(title,): row for title, row in targets})
    return _Grid(("system", *(key.replace("_", " ") for key in keys)), titles, rows)


def _setting_keys(results: Results) -> list[str]:
    return list(dict.fromkeys(key for measurement in results.measurements for key in measurement.setting))


def _cells(results: Results, keys: Sequence[str]) -> Cells:
    cells: dict[tuple[RowName, Column], Measurement] = {}
    for m in results.measurements:
        name = (m.system, *(_setting_text(m.setting.get(key, "")) for key in keys))
        if (name, (m.target, m.metric)) in cells:
            place = ", ".join(filter(None, (*name, m.target, m.metric)))
            raise UserError(f"The results of {results.experiment} have two numbers for one cell: {place}.")
        cells[name, (m.target, m.metric)] = m
    return cells


def _beside(grid: _Grid) -> tuple[list[str], list[RowName]]:
    """Paper, ours and difference as columns; only ours if the paper has no numbers."""
    header = list(grid.names)
    is_printed = [_is_printed(column) for column in zip(*grid.rows.values(), strict=True)]
    for title, printed in zip(grid.titles, is_printed, strict=True):
        header += [f"{title}: paper", "ours", "difference"] if printed else [title]
    rows = []
    for name, row in grid.rows.items():
        texts: list[str] = []
        for measurement, printed in zip(row, is_printed, strict=True):
            three = _three(measurement)
            texts += three if printed else three[1:2]
        rows.append((*name, *texts))
    return header, rows


def _below(grid: _Grid) -> tuple[list[str], list[RowName]]:
    """Paper, ours and difference as rows; only ours if the paper has no numbers."""
    rows = []
    for name, row in grid.rows.items():
        lines = zip(*(_three(measurement) for measurement in row), strict=True)
        for kind, line in zip(("paper", "ours", "difference"), lines, strict=True):
            if kind == "ours" or _is_printed(row):
                rows.append((*name, kind, *line))
    return [*grid.names, "", *grid.titles], rows


def _is_printed(measurements: Iterable[Measurement | None]) -> bool:
    """Whether the paper has a number for any of them."""
    return any(m is not None and m.paper is not None for m in measurements)


def column_title(column: Column, columns: Iterable[Column]) -> str:
    """Target and metric. The metric is omitted if it is the same in all columns."""
    target, metric = column
    if target is None:
        return _metric_title(metric)
    return target if len({other for _, other in columns}) == 1 else f"{target}, {_metric_title(metric)}"


def _metric_title(metric: str) -> str:
    return f"{metric} (%)" if metric in PERCENT else metric


def _three(measurement: Measurement | None) -> list[str]:
    """The paper's number, ours and the difference as text, with as many decimals as the paper prints."""
    if measurement is None:
        return [NO_NUMBER] * 3
    scale, decimals = 1, measurement.paper_decimals
    if measurement.metric in PERCENT:
        scale, decimals = 100, 2 if decimals is None else max(decimals - 2, 0)
    numbers = (measurement.paper, measurement.value, measurement.difference)
    paper, ours, difference = (None if number is None else scale * number for number in numbers)
    return [number_text(paper, decimals), number_text(ours, decimals), difference_text(difference, decimals)]


def paper_text(measurement: Measurement) -> str:
    """The paper's number as printed there."""
    return _three(measurement)[0]


def number_text(number: float | None, decimals: int | None) -> str:
    """Format with this many decimals, or with four significant digits if None.

    >>> number_text(12.6, 2), number_text(0.0123412, None), number_text(None, 2)
    ('12.60', '0.01234', '-')
    """
    if number is None:
        return NO_NUMBER
    return f"{number:.4g}" if decimals is None else f"{number:.{decimals}f}"


def difference_text(number: float | None, decimals: int | None) -> str:
    """Format with a sign, unless it rounds to zero.

    >>> difference_text(0.251, 2), difference_text(-0.003, 2), difference_text(-1.5, 1)
    ('+0.25', '0.00', '-1.5')
    """
    text = number_text(number, decimals)
    if number is None or float(text) == 0:
        return text.lstrip("-") or NO_NUMBER
    return f"+{text}" if number > 0 else text


def _setting_text(value: str | int | float | bool | None) -> str:
    """
    >>> _setting_text(True), _setting_text(0.05), _setting_text(None)
    ('yes', '0.05', '-')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    return NO_NUMBER if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _notes(results: Results) -> tuple[str, ...]:
    """The remarks, and the provenance of the numbers."""
    provenance = results.provenance
    sources = ", ".join(dict.fromkeys(m.source for m in results.measurements if m.source))
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    made = f"Measured {provenance.date[:10]} in {provenance.seconds:.0f} s with {versions}."
    return (*results.remarks, *([f"Paper: {sources}."] if sources else []), made)
