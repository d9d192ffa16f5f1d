"""Choose the series of a folder to segment: the only one, the clearly best one, or the one that the user names."""

from collections.abc import Callable, Sequence
from pathlib import Path

from stunet.errors import FileError, UserError
from stunet.imaging.formats.dicom.found import FoundSeries, find_series, nothing_found
from stunet.imaging.formats.dicom.series import Series
from stunet.imaging.volume import Volume

PLAINLY_LONGER = 2.0
"""A series is clearly the best if it is longer than every other one by this factor."""

COLUMNS = ("number", "modality", "description", "slices", "spacing, mm", "kernel", "phase", "remarks")

_MARKS = {
    "NM": ("SPECT",),
    "CT": ("CT",),
    "PT": ("PET", "PT", "SUV"),
    "MR": ("MR", "T1", "T2", "FLAIR", "ADC", "DWI"),
}
"""Words in the name of a channel, by modality."""

Modality = Callable[[], str | None]
"""Returns the modality of a model: CT, MR, PT or NM; None if it is not known. Called only if it matters."""


class UnclearChoiceError(FileError):
    """The choice between several series is not clear; the message lists them."""


def modality_of(channel: str) -> str | None:
    """The DICOM modality of a model's channel, as its card names it.

    >>> print(*map(modality_of, ("CT", "T2w MRI", "PET", "SPECT", "noNorm")))
    CT MR PT NM None
    """
    name = channel.upper()
    return next((modality for modality, marks in _MARKS.items() if any(mark in name for mark in marks)), None)


def choose(found: FoundSeries, modality: Modality = lambda: None, among: Sequence[Series] | None = None) -> Series:
    """The only series, or the clearly best: of the model's modality and, for CT, the largest original axial one.

    Args:
        found: what there is.
        modality: of the model; called only if there are several.
        among: the series to choose from; all by default.

    Returns:
        The series; its warnings say that it was chosen, and from how many.

    Raises:
        UserError: no series, or several that could be meant; the message lists them.
    """
    candidates = found.series if among is None else among
    if not candidates:
        raise nothing_found(found)
    if len(candidates) == 1:
        return candidates[0]
    best, *others = sorted(_rivals(candidates, modality), key=lambda one: one.extent, reverse=True)
    if others and best.extent <= PLAINLY_LONGER * others[0].extent:
        raise UnclearChoiceError(_which(found, candidates))
    return best.taken_of(len(candidates))


def chosen_number(found: FoundSeries, modality: str | None = None) -> int | None:
    """The number of the series that `choose` takes for a modality; None if users must choose, or it cannot be read."""
    try:
        chosen = choose(found, lambda: modality)
    except UnclearChoiceError:
        return None
    return None if chosen.refusal else chosen.number


def _rivals(candidates: Sequence[Series], modality: Modality) -> list[Series]:
    """Series of the model's modality, for CT only original axial ones; all series if there are none."""
    rivals = _of_modality(candidates, modality)
    if {one.modality for one in rivals} == {"CT"}:
        return [one for one in rivals if one.is_original_axial] or rivals
    return rivals


def _of_modality(candidates: Sequence[Series], modality: Modality) -> list[Series]:
    """Series of the model's modality; all series if it is not known, or if there is only one modality."""
    if len({one.modality for one in candidates}) == 1:
        return list(candidates)
    wanted = modality()
    return [one for one in candidates if one.modality == wanted] or list(candidates)


def named(found: FoundSeries, name: str) -> list[Series]:
    """The series that a user names.

    Args:
        found: what there is.
        name: a number of the table, a SeriesInstanceUID, or "all" for each that can be read.

    Raises:
        UserError: no such series, or a UID with several volumes.
    """
    if not found.series:
        raise nothing_found(found)
    if name == "all":
        readable = [one for one in found.series if not one.refusal]
        if not readable:
            raise FileError(found.series[0].refusal)
        return readable
    chosen = [one for one in found.series if name in (str(one.number), one.uid)]
    if not chosen:
        raise UserError(f"{found.path}: has no series {name!r}.\n{table_text(found.series)}")
    if len(chosen) > 1:
        raise UnclearChoiceError(_which(found, chosen))
    return chosen


def by_study(found: FoundSeries) -> list[list[Series]]:
    """The series of each study, in their order."""
    studies: dict[str, list[Series]] = {}
    for one in found.series:
        studies.setdefault(one.study, []).append(one)
    return list(studies.values())


def read_dicom(path: str | Path, channel: str | None = None) -> Volume:
    """Read the series that `choose` takes from a folder, a zip or a file.

    Args:
        path: where to look.
        channel: of the model, see `modality_of`.

    Raises:
        UserError: as for `find_series`, `choose` and `Series.read`.
    """
    return choose(find_series(path), lambda: modality_of(channel or "")).read()


def _row(one: Series) -> tuple[str, ...]:
    facts = one.stack.slices[0].facts
    z, y, x = one.stack.spacing
    spacing = f"{x:.3g} x {y:.3g} x {z:.3g}"
    against = "; ".join(one.remarks)
    count = str(len(one.stack.slices))
    return str(one.number), one.modality, facts.description, count, spacing, facts.kernel, one.part, against


def table_text(series: Sequence[Series]) -> str:
    """The table as lines of text."""
    return in_columns([COLUMNS, *map(_row, series)])


def in_columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length as lines of text, with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    return "\n".join(
        "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    )


def _which(found: FoundSeries, series: Sequence[Series]) -> str:
    return (
        f"{found.path}: holds {len(series)} series that could be meant; choose with --series NUMBER, or --series all.\n"
        f"{table_text(series)}"
    )
