"""Find scans in folders, and join channels to cases. Nothing here needs torch, so a command knows its scans at once."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stunet.errors import FileError
from stunet.imaging.formats.registry import is_image_file, without_suffix

_NUMBERED = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")
"""nnU-Net's naming: case_0000.nii.gz is the first channel of `case`."""

UNLIKELY_CHANNEL = 10
"""A number from here on is taken for a year or a count, unless the model has as many channels."""

NESTED_LEVELS = 3
"""How deep below a folder scans are looked for."""


@dataclass(frozen=True)
class ScanFile:
    """A file, or a DICOM folder, with one image.

    Attributes:
        name: what its labels are called, channel number included.
        path: where it is.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class Case:
    """The files of one scan.

    Attributes:
        name: its output is called so.
        files: one for each channel.
        problem: why these files are no case, as a sentence; None where they are one.
    """

    name: str
    files: tuple[Path, ...]
    problem: str | None = None


def is_folder_of_scans(path: Path) -> bool:
    """Whether a folder, or a folder in it, holds image files; a DICOM series has none."""
    return path.is_dir() and bool(scan_files(path))


def scan_files(folder: Path) -> list[ScanFile]:
    """The image files of a folder, in order of name; hidden ones are passed over.

    Where the folder itself holds none, those of its subfolders are taken, and named after them: `s0001/ct.nii.gz` is
    `s0001`, or `s0001_ct` where `s0001` holds several.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("s1/ct.nii.gz", "s2/ct.nii.gz", "s2/pet.NII", "s2/._pet.nii"):
    ...     (folder / name).parent.mkdir(exist_ok=True)
    ...     (folder / name).touch()
    >>> [scan.name for scan in scan_files(folder)]
    ['s1', 's2_ct', 's2_pet']
    """
    own = _images_in(folder)
    if own:
        return [ScanFile(without_suffix(path), path) for path in own]
    return [scan for subfolder in _folders_in(folder) for scan in _nested(subfolder, folder, NESTED_LEVELS)]


def _nested(folder: Path, root: Path, levels: int) -> Iterable[ScanFile]:
    images = _images_in(folder)
    name = "_".join(without_suffix(Path(part)) for part in folder.relative_to(root).parts)
    for path in images:
        yield ScanFile(name if len(images) == 1 else f"{name}_{without_suffix(path)}", path)
    if levels > 1:
        for subfolder in _folders_in(folder):
            yield from _nested(subfolder, root, levels - 1)


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and is_image_file(path))


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def find_cases(folder: Path, channels: int) -> list[Case]:
    """The cases of a folder, for a model with so many input channels; see `scan_files` and `join_channels`."""
    return join_channels(scan_files(folder), channels)


def join_channels(scans: Sequence[ScanFile], channels: int) -> list[Case]:
    """The cases that files make, in order of name.

    Files are channels of one case only where their names say so without a gap: `a_0000` to `a_000n`, n + 1 of them, as
    many as the model takes. `brain_2021` and `brain_2022` are two cases. What looks like channels but is not complete,
    or doubled, becomes a case with a problem, and is not guessed at.

    Args:
        scans: files by name.
        channels: that the model takes.

    >>> files = [ScanFile(name, Path(name)) for name in ("a_0000", "a_0001", "b_2021", "b_2022", "c_0000", "c_0002")]
    >>> for case in join_channels(files, channels=2):
    ...     print(case.name, [str(path) for path in case.files], case.problem)
    a ['a_0000', 'a_0001'] None
    b_2021 ['b_2021'] None
    b_2022 ['b_2022'] None
    c ['c_0000', 'c_0002'] c: channel 0001 is missing; the model takes channels 0000 to 0001.
    """
    groups: dict[str, dict[int | None, list[Path]]] = {}
    for scan in scans:
        match = _NUMBERED.fullmatch(scan.name)
        name, number = (match["case"], int(match["number"])) if match else (scan.name, None)
        groups.setdefault(name, {}).setdefault(number, []).append(scan.path)
    cases = [case for name, files in groups.items() for case in _cases_of(name, files, channels)]
    return sorted(cases, key=lambda case: case.name)


def _cases_of(name: str, files: Mapping[int | None, Sequence[Path]], channels: int) -> list[Case]:
    """One case, or one for each file where the numbers are years or a count, and not those of channels."""
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
    name: str, files: Mapping[int | None, Sequence[Path]], numbers: Sequence[int], channels: int
) -> str | None:
    """Why files are no case: two for one channel, a channel too few, or one too many."""
    doubled = _same_by_name(files, numbers)
    if doubled:
        return f"{name}: {' and '.join(path.name for path in doubled)} are the same image by name; keep one of them."
    if not numbers or list(numbers) == list(range(channels)):
        return None
    missing = [f"{number:04d}" for number in range(channels) if number not in numbers]
    wrong = f"channel {', '.join(missing)} is missing" if missing else f"has {len(numbers)} channels"
    takes = "channel 0000 alone" if channels == 1 else f"channels 0000 to {channels - 1:04d}"
    return f"{name}: {wrong}; the model takes {takes}."


def _same_by_name(files: Mapping[int | None, Sequence[Path]], numbers: Sequence[int]) -> Sequence[Path]:
    """Files that stand for one channel, such as a.nii and a.nii.gz, or a.nii and a_0000.nii; empty if none do."""
    for paths in files.values():
        if len(paths) > 1:
            return paths
    return [files[None][0], files[numbers[0]][0]] if None in files and numbers else []


def require_scans(folder: Path) -> None:
    """Refuse a folder in which there is nothing.

    Raises:
        UserError: it is empty, or holds hidden files only.
    """
    if not any(not path.name.startswith(".") for path in folder.iterdir()):
        raise FileError(f"{folder}: the folder is empty; give one with scans, or a scan.")


def scan_name(path: Path) -> str:
    """The name of a single scan: its file's, without suffix and the number of a first channel.

    >>> scan_name(Path("hippocampus_001_0000.nii.gz")), scan_name(Path("brain_2021.nii"))
    ('hippocampus_001', 'brain_2021')
    """
    return without_suffix(path).removesuffix("_0000") or without_suffix(path)
