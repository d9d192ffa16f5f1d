"""Find scans in folders, and join channels to cases. Nothing here needs torch, so it is fast."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from stunet.errors import FileError, listed
from stunet.imaging.formats.registry import is_image_file, without_suffix

if TYPE_CHECKING:
    from stunet.imaging.formats.dicom.series import Series

OneFile: TypeAlias = "Path | Series"
"""The source of a case's labels, or of one channel of it."""

_NUMBERED = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")
"""nnU-Net's naming: case_0000.nii.gz is the first channel of `case`."""

UNLIKELY_CHANNEL = 10
"""Numbers from here on are treated as a year or a count, unless the model has that many channels."""

NESTED_LEVELS = 3
"""Maximum folder depth of the search for scans."""


@dataclass(frozen=True)
class ScanFile:
    """One image.

    name: name for its labels, without the number.
    number: channel number at the end of the file name; None without one. Numbers of folders are not channel numbers.
    path: its file, or a DICOM series.
    """

    name: str
    number: int | None
    path: OneFile

    @property
    def numbered_name(self) -> str:
        """The name with its number, if the number is not a channel's."""
        return self.name if self.number is None else f"{self.name}_{self.number:04d}"


def scan_file(path: Path, prefix: str = "") -> ScanFile:
    """A file or a DICOM folder that may be a channel. `prefix` is added in front of its name.

    >>> scan = scan_file(Path("ct_0001.nii.gz"), "s1_")
    >>> scan.name, scan.number, scan.numbered_name
    ('s1_ct', 1, 's1_ct_0001')
    """
    stem = without_suffix(path)
    match = None if path.is_dir() else _NUMBERED.fullmatch(stem)
    name, number = (match["case"], int(match["number"])) if match else (stem, None)
    return ScanFile(prefix + name, number, path)


@dataclass(frozen=True)
class Case:
    """The files of one scan.

    Attributes:
        name: name for its output.
        files: one per channel; a DICOM series counts as one.
        problem: a sentence on why these files are not a valid case; None if they are.
    """

    name: str
    files: tuple[OneFile, ...]
    problem: str | None = None


def is_folder_of_scans(path: Path) -> bool:
    """Whether a folder or one of its subfolders contains image files. DICOM files do not count."""
    return path.is_dir() and bool(scan_files(path))


def scan_files(folder: Path) -> list[ScanFile]:
    """The image files of a folder, sorted by name, without hidden files.

    If the folder itself has none, the files of its subfolders are used, and named after them: `s0001/ct.nii.gz` becomes
    `s0001`, or `s0001_ct` if `s0001` has several.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for path in (Path(folder, name) for name in ("s1/ct.nii.gz", "s2/ct.nii.gz", "s2/pet.NII", "s2/._pet.nii")):
    ...         path.parent.mkdir(exist_ok=True)
    ...         path.touch()
    ...     print(*(scan.name for scan in scan_files(Path(folder))))
    s1 s2_ct s2_pet
    """
    own = _images_in(folder)
    if own:
        return [scan_file(path) for path in own]
    return [scan for subfolder in _folders_in(folder) for scan in _nested(subfolder, folder, NESTED_LEVELS)]


def _nested(folder: Path, root: Path, levels: int) -> Iterable[ScanFile]:
    images = _images_in(folder)
    name = "_".join(without_suffix(Path(part)) for part in folder.relative_to(root).parts)
    for path in images:
        yield ScanFile(name, None, path) if len(images) == 1 else scan_file(path, f"{name}_")
    if levels > 1:
        for subfolder in _folders_in(folder):
            yield from _nested(subfolder, root, levels - 1)


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and is_image_file(path))


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def find_cases(folder: Path, channels: int) -> list[Case]:
    """The cases in a folder, for a model with this many input channels; see `scan_files` and `join_channels`."""
    return join_channels(scan_files(folder), channels)


def join_channels(scans: Sequence[ScanFile], channels: int) -> list[Case]:
    """Join files to cases, sorted by name.

    Files are channels of one case only if their names number them without a gap: `a_0000` to `a_000n`, n + 1 files, as
    many as the model takes. `brain_2021` and `brain_2022` are two cases. Files that look like channels but are
    incomplete or duplicated become a case with a problem. A DICOM series is always its own case.

    Args:
        scans: the files.
        channels: number of channels that the model takes.

    >>> files = [scan_file(Path(name)) for name in ("a_0000", "a_0001", "b_2021", "b_2022", "c_0000", "c_0002")]
    >>> for case in join_channels(files, channels=2):
    ...     print(case.name, [str(path) for path in case.files], case.problem)
    a ['a_0000', 'a_0001'] None
    b_2021 ['b_2021'] None
    b_2022 ['b_2022'] None
    c ['c_0000', 'c_0002'] c: channel 0001 is missing; the model takes channels 0000 to 0001.
    """
    groups: dict[str, dict[int | None, list[OneFile]]] = {}
    for scan in scans:
        groups.setdefault(scan.name, {}).setdefault(scan.number, []).append(scan.path)
    cases = [case for name, files in groups.items() for case in _cases_of(name, files, channels)]
    return sorted(cases, key=lambda case: case.name)


def _cases_of(name: str, files: Mapping[int | None, Sequence[OneFile]], channels: int) -> list[Case]:
    """One case, or one per file if the numbers are years or counts rather than channels."""
    numbers = sorted(number for number in files if number is not None)
    if numbers and not _are_channels(numbers, channels):
        own = {f"{name}_{number:04d}": tuple(files[number]) for number in numbers}
        own |= {name: tuple(files[None])} if None in files else {}
        return [Case(each, paths, _problem(each, {None: paths}, [], channels)) for each, paths in own.items()]
    paths = tuple(path for number in (None, *numbers) for path in files.get(number, ()))
    return [Case(name, paths, _problem(name, files, numbers, channels))]


def _are_channels(numbers: Sequence[int], channels: int) -> bool:
    if max(numbers) >= max(channels, UNLIKELY_CHANNEL):
        return False
    return 0 in numbers or (channels > 1 and min(numbers) < channels)


def _problem(
    name: str, files: Mapping[int | None, Sequence[OneFile]], numbers: Sequence[int], channels: int
) -> str | None:
    """Why files are not a valid case: duplicate, missing or extra channels."""
    doubled = _same_by_name(files, numbers)
    if doubled:
        return f"{name}: {' and '.join(_told_apart(doubled))} are the same image by name; keep one of them."
    if not numbers or list(numbers) == list(range(channels)):
        return None
    if channels > 1:
        return _wrong_channels(name, numbers, channels)
    named = listed(files[number][0].name for number in numbers)
    return (
        f"{name}: {named} are {len(numbers)} channels of one scan by their names, but the model takes one. If one of "
        "them is what the model takes, give that file alone. If each is a scan, rename them, such as "
        f"{name}_a and {name}_b: nnU-Net's numbers from _0000 are those of channels."
    )


def _told_apart(scans: Sequence[OneFile]) -> list[str]:
    """The file names if they differ, else the paths. For a DICOM series, its folder."""
    names = [scan.name for scan in scans if isinstance(scan, Path)]
    return names if len(set(names)) == len(scans) else [str(scan) for scan in scans]


def _wrong_channels(name: str, numbers: Sequence[int], channels: int) -> str:
    missing = [f"{number:04d}" for number in range(channels) if number not in numbers]
    wrong = f"channel {', '.join(missing)} is missing" if missing else f"has {len(numbers)} channels"
    return f"{name}: {wrong}; the model takes channels 0000 to {channels - 1:04d}."


def _same_by_name(files: Mapping[int | None, Sequence[OneFile]], numbers: Sequence[int]) -> Sequence[OneFile]:
    """Files that stand for the same channel, such as a.nii and a.nii.gz, or a.nii and a_0000.nii; empty if none do."""
    for paths in files.values():
        if len(paths) > 1:
            return paths
    return [files[None][0], files[numbers[0]][0]] if None in files and numbers else []


def require_scans(folder: Path) -> None:
    """Refuse an empty folder.

    Raises:
        UserError: it is empty, or has only hidden files.
    """
    if not any(not path.name.startswith(".") for path in folder.iterdir()):
        raise FileError(f"{folder}: the folder is empty; give one with scans, or a scan.")


def scan_name(path: Path) -> str:
    """The name of a single scan: that of its file, without suffix and first-channel number, or of its folder.

    >>> scan_name(Path("hippocampus_001_0000.nii.gz")), scan_name(Path("brain_2021.nii"))
    ('hippocampus_001', 'brain_2021')
    """
    scan = scan_file(path)
    return scan.numbered_name if scan.number else scan.name
