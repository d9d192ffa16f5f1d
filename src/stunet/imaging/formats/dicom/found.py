"""Find the series in a folder, a zip or a file: group the headers into series, then check each series as a whole."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stunet.errors import FileError, UserError
from stunet.imaging.affine import check_affine
from stunet.imaging.formats.dicom import geometry
from stunet.imaging.formats.dicom.geometry import Stack
from stunet.imaging.formats.dicom.headers import Content, Passed, Unreadable, read_headers
from stunet.imaging.formats.dicom.regular_grid import RegularGrid
from stunet.imaging.formats.dicom.series import Reading, Series, common_folder
from stunet.imaging.formats.dicom.slices import Slice
from stunet.imaging.formats.dicom.split import Part, split
from stunet.imaging.volume import check_size


@dataclass(frozen=True, eq=False)
class FoundSeries:
    """What lies in a folder, a zip or a file.

    Attributes:
        path: what was searched.
        series: what may be scans, by number.
        passed: number of files that are not slices, by kind.
        unreadable: files that may be slices, but of an unknown series.
    """

    path: Path
    series: tuple[Series, ...]
    passed: Counter[str]
    unreadable: tuple[Unreadable, ...]

    def numbered(self, number: int) -> Series | None:
        """The series with this number; None if there is none."""
        return next((one for one in self.series if one.number == number), None)


def find_series(path: str | Path, reading: Reading = Reading()) -> FoundSeries:  # noqa: B008 (frozen)
    """Find the DICOM series of a folder with all below it, of a zip, or of one file. Only headers are read.

    Args:
        path: where to look.
        reading: how the series are to be read; decides what is refused.

    Raises:
        UserError: nothing there, a folder that holds too much, or a zip that is damaged or hostile.
    """
    path = Path(path)
    if not path.exists():
        raise FileError(f"{path}: no such file or folder.")
    contents = read_headers(path)
    unreadable = [one for one in contents if isinstance(one, Unreadable)]
    parts = [part for slices in sorted(_by_series(contents), key=_order) for part in split(slices)]
    lost = _of_no_series(parts, unreadable)
    passed = _passed(contents, len(lost))
    warnings = (f"{path}: passed over {_counted(passed)}.",) if passed else ()
    refusals = [_refusal(part, unreadable, reading) for part in parts]
    series = tuple(
        Series(number, Stack.of(part.slices), part.name, refusal, path, warnings, reading)
        for number, (part, refusal) in enumerate(zip(parts, refusals, strict=True), 1)
    )
    return FoundSeries(path, series, passed, lost)


def _passed(contents: Sequence[Content], unreadable: int) -> Counter[str]:
    """Number of files that are not slices, by kind."""
    passed = Counter(one.kind for one in contents if isinstance(one, Passed))
    passed.update(["unreadable file"] * unreadable)
    return passed


def _counted(passed: Counter[str]) -> str:
    """The skipped files, in words."""
    return ", ".join(f"{count} x {kind}" for kind, count in passed.items())


def nothing_found(found: FoundSeries) -> FileError:
    """Why there is no series to read."""
    if found.unreadable:
        return FileError(found.unreadable[0].reason)
    return FileError(
        f"{found.path}: holds no DICOM slices ({_counted(found.passed) or 'no files'}); give the folder with the files "
        "of one series."
    )


def _by_series(contents: Sequence[Content]) -> list[list[Slice]]:
    """The slices of each SeriesInstanceUID, without copies."""
    series: dict[str, dict[object, Slice]] = {}
    for one in (one for content in contents if isinstance(content, list) for one in content):
        place = tuple(np.round(one.plane.position, 3))
        copies_have = (one.sop_uid, one.frame, place, one.size) if one.sop_uid else id(one)
        series.setdefault(one.facts.uid, {}).setdefault(copies_have, one)
    return [list(slices.values()) for slices in series.values()]


def _order(slices: Sequence[Slice]) -> tuple[str, int, str]:
    """Series of one study by their number."""
    facts = slices[0].facts
    return facts.study, int(facts.number) if facts.number.lstrip("-").isdigit() else 0, facts.uid


def _refusal(part: Part, unreadable: Sequence[Unreadable], reading: Reading) -> str:
    """Why a part of a series is not a scan, as a sentence with its file or folder; empty if it is one."""
    problems = [one.problem for one in part.slices if one.problem]
    problems += [one.reason for one in _of_series(part, unreadable)]
    if problems:
        return problems[0]
    stack = Stack.of(part.slices)
    folder = common_folder({one.source.folder for one in part.slices})
    if part.stray is not None:
        return (
            f"{folder}: {part.stray[0].name} and {part.stray[1].name} differ in size, spacing or orientation, so they "
            "are not slices of one scan; move each scan to its own folder."
        )
    wrong = geometry.refusal(stack, reading.strict_geometry)
    if wrong:
        return f"{folder}: {wrong}"
    try:
        check_affine(stack.affine if stack.is_regular else RegularGrid.around(stack).affine, str(folder))
        check_size(stack.size, str(folder))
    except UserError as error:
        return str(error)
    return ""


def _of_series(part: Part, unreadable: Sequence[Unreadable]) -> list[Unreadable]:
    """Unreadable files that belong to a series: by its UID, or by their folder and the kind of their name.

    A multi-frame file holds its volume alone, so no file without a UID can be a missing slice of it.
    """
    uid = part.slices[0].facts.uid
    places = (
        set() if _is_one_file(part) else {(one.source.folder, _kind_of_name(one.source.name)) for one in part.slices}
    )
    return [
        one
        for one in unreadable
        if (one.series == uid if one.series else (one.source.folder, _kind_of_name(one.source.name)) in places)
    ]


def _is_one_file(part: Part) -> bool:
    """Whether one file holds all slices that a volume can have."""
    files = {id(one.source) for one in part.slices}
    return len(files) == 1 and len(part.slices) > 1 and not any(one.concatenated for one in part.slices)


def _of_no_series(parts: Sequence[Part], unreadable: Sequence[Unreadable]) -> tuple[Unreadable, ...]:
    """Unreadable files that belong to none."""
    known = {id(one) for part in parts for one in _of_series(part, unreadable)}
    return tuple(one for one in unreadable if id(one) not in known)


def _kind_of_name(name: str) -> str:
    """The ending of a file's name, if it has letters only.

    >>> _kind_of_name("slice007.DCM"), _kind_of_name("IM_0001"), _kind_of_name("1.2.840.5")
    ('.dcm', '', '')
    """
    suffix = Path(name).suffix.lower()
    return suffix if suffix[1:].isalpha() else ""
