"""Find the cases of a folder. Nothing here needs torch, so a command knows its scans before torch is loaded."""

import re
from dataclasses import dataclass
from pathlib import Path

from stunet.imaging.formats.registry import SUFFIXES, without_suffix

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
"""nnU-Net's naming: case_0000.nii.gz is the first channel of `case`."""


@dataclass(frozen=True)
class Case:
    """The files of one scan.

    Attributes:
        name: without suffix and channel number; its output is called so.
        files: one for each channel.
    """

    name: str
    files: tuple[Path, ...]


def is_folder_of_scans(path: Path) -> bool:
    """Whether a folder holds NIfTI files, and not one DICOM series."""
    return path.is_dir() and any(p.name.endswith(SUFFIXES) for p in path.iterdir())


def find_scans(folder: Path) -> list[Case]:
    """The cases of a folder of NIfTI files, in order of name.

    Files named as nnU-Net names channels (`case_0000.nii.gz`, `case_0001.nii.gz`) are put together.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("a_0000.nii.gz", "a_0001.nii.gz", "b.nii"):
    ...     (folder / name).touch()
    >>> {case.name: len(case.files) for case in find_scans(folder)}
    {'a': 2, 'b': 1}
    """
    files: dict[str, list[Path]] = {}
    for path in sorted(p for p in folder.iterdir() if p.name.endswith(SUFFIXES)):
        files.setdefault(case_name(path), []).append(path)
    return [Case(name, tuple(paths)) for name, paths in files.items()]


def case_name(path: Path) -> str:
    """The name of a scan: its file's, without suffix and channel number.

    >>> case_name(Path("hippocampus_001_0000.nii.gz"))
    'hippocampus_001'
    """
    stem = without_suffix(path)
    channel = _CHANNEL.fullmatch(stem)
    return channel["case"] if channel else stem
