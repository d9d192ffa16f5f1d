"""Many scans with one model: which files make a case, and a failure that costs only its own case."""

import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stunet.errors import UserError
from stunet.inference.predictor import Predictor
from stunet.inference.segmentation import Segmentation
from stunet.inference.sliding import OnWindow

SUFFIXES = (".nii.gz", ".nii")

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
"""nnU-Net's naming: case_0000.nii.gz is the first channel of `case`."""


@dataclass(frozen=True)
class Case:
    """One scan.

    Attributes:
        name: of its output, without suffix.
        files: one for each channel.
    """

    name: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        case: which.
        output: the written label map; None where it failed.
        segmentation: the result; None where it failed.
        error: a sentence; None where all went well.
        is_our_fault: the error is a fault of stunet's and not of the input.
    """

    case: Case
    output: Path | None = None
    segmentation: Segmentation | None = None
    error: str | None = None
    is_our_fault: bool = False


def is_folder_of_scans(path: Path) -> bool:
    """Whether a folder holds NIfTI files, and not one DICOM series."""
    return path.is_dir() and any(p.name.endswith(SUFFIXES) for p in path.iterdir())


def find_cases(folder: Path) -> list[Case]:
    """The cases of a folder of NIfTI files, in order of name.

    Files named as nnU-Net names channels (`case_0000.nii.gz`, `case_0001.nii.gz`) are put together.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("a_0000.nii.gz", "a_0001.nii.gz", "b.nii"):
    ...     (folder / name).touch()
    >>> [(case.name, len(case.files)) for case in find_cases(folder)]
    [('a', 2), ('b', 1)]
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
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    channel = _CHANNEL.fullmatch(stem)
    return channel["case"] if channel else stem


def predict_cases(
    predictor: Predictor, cases: list[Case], output_folder: Path, on_window: OnWindow | None = None
) -> Iterator[Outcome]:
    """Segment one case after the other and write `output_folder/<case>.nii.gz`.

    Whatever happens to one case, the others are segmented.

    Yields:
        One outcome for each case, as soon as it is known.
    """
    output_folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        yield _predict_case(predictor, case, output_folder / f"{case.name}.nii.gz", on_window)


def _predict_case(predictor: Predictor, case: Case, output: Path, on_window: OnWindow | None) -> Outcome:
    try:
        segmentation = predictor.predict(case.files if len(case.files) > 1 else case.files[0], on_window)
        segmentation.save(output)
    except UserError as error:
        return Outcome(case, error=str(error))
    except Exception:
        return Outcome(case, error=traceback.format_exc(), is_our_fault=True)
    return Outcome(case, output, segmentation)
