"""How the measurements of a results file lie in a table, the paper's numbers beside ours."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stunet.errors import UserError
from stunet.experiments.results import Measurement, Results

PERCENT = ("DSC", "NSD")
"""Metrics that results hold as shares, and that tables show in per cent."""

MOST_BESIDE = 3
"""So many columns of the paper have its number, ours and the difference side by side; more have them in three rows."""

ABSENT = "-"
"""Stands where there is no number."""

MOST_ACROSS = 10
"""Where targets are more, they lie below each other, and the systems across."""

Label = tuple[str, ...]
"""A system and its settings, as texts."""

Column = tuple[str | None, str]
"""Target and metric."""


@dataclass(frozen=True)
class Table:
    """Texts, ready to be set.

    Attributes:
        title: what it shows.
        header: of the columns.
        labels: how many columns at the left name the rows; the others are numbers.
        rows: as long as the header.
        remarks: to be read with it.
    """

    title: str
    header: tuple[str, ...]
    labels: int
    rows: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Grid:
    """Measurements in rows.

    Attributes:
        names: of the columns that label a row.
        titles: of the columns of numbers.
        rows: label of a row to its measurements, None where there is none.
    """

    names: Label
    titles: tuple[str, ...]
    rows: Mapping[Label, Sequence[Measurement | None]]


def table_of(results: Results) -> Table:
    """The results as a table: a row, or three, for each system and setting; columns are targets and metrics.

    Raises:
        UserError: no measurements, or two of one place in the table.
    """
    if not results.measurements:
        raise UserError(f"The results of {results.experiment} hold no measurements yet.")
    grid = _grid(results)
    layout = _beside if len(grid.titles) <= MOST_BESIDE else _below
    header, rows = layout(grid)
    labels = len(grid.names) + (layout is _below)
    return Table(_title(results), tuple(header), labels, tuple(rows), _notes(results))


def _grid(results: Results) -> _Grid:
    """Systems down and targets across, or the other way round where the targets are many."""
    keys = list(dict.fromkeys(key for measurement in results.measurements for key in measurement.setting))
    cells: dict[tuple[Label, Column], Measurement] = {}
    for m in results.measurements:
        label = (m.system, *(_setting_text(m.setting.get(key, "")) for key in keys))
        if (label, (m.target, m.metric)) in cells:
            place = ", ".join(filter(None, (*label, m.target, m.metric)))
            raise UserError(f"The results of {results.experiment} hold two numbers for one place: {place}.")
        cells[label, (m.target, m.metric)] = m
    labels = list(dict.fromkeys(label for label, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    titles = tuple(column_title(column, columns) for column in columns)
    if len(columns) > MOST_ACROSS:
        systems = tuple(", ".join(filter(None, label)) for label in labels)
        rows = zip(titles, columns, strict=True)
        return _Grid(("target",), systems, {(t,): [cells.get((label, c)) for label in labels] for t, c in rows})
    names = ("system", *(key.replace("_", " ") for key in keys))
    return _Grid(names, titles, {label: [cells.get((label, c)) for c in columns] for label in labels})


def _beside(grid: _Grid) -> tuple[list[str], list[Label]]:
    """Paper, ours and difference in columns; only ours where the paper prints nothing."""
    header = list(grid.names)
    is_printed = [_is_printed(column) for column in zip(*grid.rows.values(), strict=True)]
    for title, printed in zip(grid.titles, is_printed, strict=True):
        header += [f"{title}: paper", "ours", "difference"] if printed else [title]
    rows = []
    for label, row in grid.rows.items():
        texts: list[str] = []
        for measurement, printed in zip(row, is_printed, strict=True):
            three = _three(measurement)
            texts += three if printed else three[1:2]
        rows.append((*label, *texts))
    return header, rows


def _below(grid: _Grid) -> tuple[list[str], list[Label]]:
    """Paper, ours and difference in rows; only ours where the paper prints nothing."""
    rows = []
    for label, row in grid.rows.items():
        lines = zip(*(_three(measurement) for measurement in row), strict=True)
        for kind, line in zip(("paper", "ours", "difference"), lines, strict=True):
            if kind == "ours" or _is_printed(row):
                rows.append((*label, kind, *line))
    return [*grid.names, "", *grid.titles], rows


def _is_printed(measurements: Iterable[Measurement | None]) -> bool:
    """Whether the paper has a number for any of them."""
    return any(m is not None and m.paper is not None for m in measurements)


def column_title(column: Column, columns: Iterable[Column]) -> str:
    """Target and metric; the metric is left out where all columns have the same."""
    target, metric = column
    shown = f"{metric} (%)" if metric in PERCENT else metric
    if target is None:
        return shown
    return target if len({other for _, other in columns}) == 1 else f"{target}, {shown}"


def _three(measurement: Measurement | None) -> list[str]:
    """The paper's number, ours and the difference, as texts with as many decimals as the paper prints."""
    if measurement is None:
        return [ABSENT] * 3
    scale, decimals = 1, measurement.paper_decimals
    if measurement.metric in PERCENT:
        scale, decimals = 100, 2 if decimals is None else max(decimals - 2, 0)
    numbers = (measurement.paper, measurement.value, measurement.difference)
    paper, ours, difference = (None if number is None else scale * number for number in numbers)
    return [number_text(paper, decimals), number_text(ours, decimals), difference_text(difference, decimals)]


def paper_text(measurement: Measurement) -> str:
    """The paper's number as it prints it."""
    return _three(measurement)[0]


def number_text(number: float | None, decimals: int | None) -> str:
    """With so many decimals, or with four significant digits where that is None.

    >>> number_text(12.6, 2), number_text(0.0123412, None), number_text(None, 2)
    ('12.60', '0.01234', '-')
    """
    if number is None:
        return ABSENT
    return f"{number:.4g}" if decimals is None else f"{number:.{decimals}f}"


def difference_text(number: float | None, decimals: int | None) -> str:
    """The same with its sign; what is rounded to nothing has none.

    >>> difference_text(0.251, 2), difference_text(-0.003, 2), difference_text(-1.5, 1)
    ('+0.25', '0.00', '-1.5')
    """
    text = number_text(number, decimals)
    if number is None or float(text) == 0:
        return text.lstrip("-") or ABSENT
    return f"+{text}" if number > 0 else text


def _setting_text(value: str | int | float | bool | None) -> str:
    """
    >>> _setting_text(True), _setting_text(0.05), _setting_text(None)
    ('yes', '0.05', '-')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ABSENT if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _title(results: Results) -> str:
    metrics = dict.fromkeys(m.metric for m in results.measurements)
    shown = ", ".join(f"{metric} (%)" if metric in PERCENT else metric for metric in metrics)
    return f"{results.experiment}, profile {results.profile}: {shown}"


def _notes(results: Results) -> tuple[str, ...]:
    """The remarks, and where the numbers come from."""
    provenance = results.provenance
    sources = ", ".join(dict.fromkeys(m.source for m in results.measurements if m.source))
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    made = f"Measured {provenance.date[:10]} in {provenance.seconds:.0f} s with {versions}."
    return (*results.remarks, *([f"Paper: {sources}."] if sources else []), made)
