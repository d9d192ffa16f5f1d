"""The scans of a batch: written down, so that workers need not look for them again."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet.batch.dicom_scans import DicomChoice, dicom_scans, is_dicom_input
from stunet.batch.find_scans import OneFile
from stunet.batch.ledger import Ledger
from stunet.errors import FileError, UserError
from stunet.files import as_json, read_json_lines

if TYPE_CHECKING:
    from stunet.imaging.formats.dicom.series import Series


@dataclass(frozen=True)
class ListedFile:
    """One channel of a scan, or all of it.

    Attributes:
        path: an absolute path: a file, or the folder or zip with DICOM.
        series: a digest of the SeriesInstanceUID, where a certain series is meant.
        part: which of several volumes of the series.
        warnings: sentences on how the series was chosen.
    """

    path: str
    series: str = ""
    part: str = ""
    warnings: tuple[str, ...] = ()

    @staticmethod
    def of(file: OneFile) -> "ListedFile":
        """A path, or a series that was found."""
        if isinstance(file, Path):
            return ListedFile(str(file.absolute()))
        return ListedFile(str(_place(file).absolute()), _digest(file.uid), file.part, file.warnings)

    def found(self, choice: DicomChoice, channel: str) -> OneFile:
        """What is read: the path, or its DICOM series.

        Args:
            choice: which series, where the list names none.
            channel: what the model calls its first channel.

        Raises:
            UserError: nothing there, or no such series.
        """
        path = Path(self.path)
        if not path.exists():
            raise FileError(f"{path}: no such file or folder.")
        if self.series:
            return self._same_series(choice)
        if is_dicom_input(path, choice):
            return dicom_scans(path, choice, lambda: channel, into_folder=False)[0].path
        return path

    def _same_series(self, choice: DicomChoice) -> "Series":
        from stunet.imaging.formats.dicom.found import find_series
        from stunet.imaging.formats.dicom.series import Reading

        found = find_series(Path(self.path), Reading(choice.strict_geometry, choice.suv))
        for series in found.series:
            if _digest(series.uid) == self.series and series.part == self.part:
                return replace(series, warnings=self.warnings or series.warnings)
        raise FileError(f"{self.path}: the series that was listed is not there any more.")


@dataclass(frozen=True)
class ListedScan:
    """A scan of a batch.

    Attributes:
        name: its outputs are called so; no other scan's.
        files: one for each channel.
        problem: why these files are no scan, as a sentence; None where they are one.
    """

    name: str
    files: tuple[ListedFile, ...]
    problem: str | None = None

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> "ListedScan":
        """What `dataclasses.asdict` gave.

        Raises:
            KeyError, TypeError: something else.
            ValueError: a name with which outputs would lie in another folder.
        """
        files = tuple(ListedFile(**{**one, "warnings": tuple(one["warnings"])}) for one in content["files"])
        name, problem = content["name"], content["problem"]
        texts = [name, problem or "", *chain.from_iterable((*astuple(file)[:3], *file.warnings) for file in files)]
        if not files or not all(isinstance(text, str) for text in texts):
            raise TypeError("a scan has a name and files, which are texts")
        require_plain_name(name)
        return ListedScan(name, files, problem)


def require_plain_name(name: str) -> None:
    """Refuse a name that names a folder, too.

    Raises:
        ValueError: it does.
    """
    if Path(name).name != name or name in ("", "..") or "\0" in name:
        raise ValueError(f"{name!r} cannot be the name of an output")


class ScanLists:
    """The lists of scans of a batch: each a file that never changes; together they are the batch.

    Args:
        ledger: where they lie.
    """

    def __init__(self, ledger: Ledger):
        self._ledger = ledger
        self._folder = ledger.folder / "lists"
        self._read: set[str] = set()
        self.scans: dict[str, ListedScan] = {}

    def refresh(self) -> None:
        """Read the lists that were added since the last time."""
        for name in sorted(self._ledger.files.names(self._folder)):
            if name.endswith(".jsonl") and name not in self._read:
                self.scans |= {scan.name: scan for scan in _read_list(self._folder / name)}
                self._read.add(name)

    def add(self, scans: Iterable[ListedScan]) -> int:
        """Write down the scans that are not listed yet.

        Returns:
            How many they are.

        Raises:
            UserError: another scan of the same name is listed, or the folder cannot be written.
        """
        self.refresh()
        new = []
        for scan in scans:
            known = self.scans.get(scan.name)
            if known is None:
                new.append(scan)
            elif known.files != scan.files:
                raise UserError(
                    f"{scan.files[0].path}: this batch already has another scan called {scan.name!r}, "
                    f"{known.files[0].path}; rename one, or give another folder."
                )
        if new:
            lines = [asdict(scan) for scan in new]
            digest = sha256(as_json(lines).encode()).hexdigest()[:16]
            self._ledger.create_lines(self._folder / f"{digest}.jsonl", lines)
            self.refresh()
        return len(new)


def _read_list(path: Path) -> Iterator[ListedScan]:
    for content in read_json_lines(path):
        try:
            yield ListedScan.from_dict(content)
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"{path}: was not written by this version of stunet ({error}).") from error


def files_of(files: Iterable[OneFile]) -> list[Path]:
    """The files that a scan is read from, in order."""
    paths: list[Path] = []
    for file in files:
        if isinstance(file, Path):
            paths += [file] if file.is_file() else []
        else:
            paths += dict.fromkeys(one.source.path for one in file.stack.slices)
    return paths


def _place(series: "Series") -> Path:
    """The zip or folder in which a series lies."""
    first = series.stack.slices[0].source
    return first.path if first.member else series.folder


def _digest(uid: str) -> str:
    return sha256(json.dumps(uid).encode()).hexdigest()[:16]
