"""DICOM inputs: which series of a folder or zip to segment, and how to name their labels."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stunet.batch.find_scans import ScanFile, scan_files, scan_name
from stunet.errors import FileError, OutputError
from stunet.imaging.formats.dicom.find import holds_dicom, is_dicom_file
from stunet.imaging.formats.registry import READERS, has_suffix

if TYPE_CHECKING:
    from stunet.imaging.formats.dicom.found import FoundSeries
    from stunet.imaging.formats.dicom.series import Series

Channel = Callable[[], str | None]
"""Returns the model's name for its first channel. Called only if a folder has series of several modalities."""


@dataclass(frozen=True)
class DicomChoice:
    """The DICOM series to segment, and how to read them.

    Attributes:
        series: a number from `stunet series`, a SeriesInstanceUID, or "all"; None for the only or clearly best series
            (of each study, if the output is a folder).
        strict_geometry: refuse tilted and unevenly spaced slices.
        suv: convert PET activity to SUV by body weight.
    """

    series: str | None = None
    strict_geometry: bool = False
    suv: bool = False


def is_dicom_input(path: Path, choice: DicomChoice, into_folder: bool = False) -> bool:
    """Whether an existing path is read as DICOM.

    If a folder also has images, and all its scans are segmented, the images are used.

    Raises:
        UserError: a folder has both images and DICOM, and it is unclear which is meant.
    """
    if not path.is_dir():
        return not has_suffix(path, READERS) and is_dicom_file(path)
    if not holds_dicom(path):
        return False
    images = scan_files(path)
    if images and choice.series is None:
        if into_folder:
            return False
        raise FileError(
            f"{path}: holds DICOM files and images such as {images[0].path}; name the image to segment it, add "
            "--series to segment a DICOM series, or move one of them to another folder."
        )
    return True


def dicom_scans(path: Path, choice: DicomChoice, channel: Channel, into_folder: bool) -> list[ScanFile]:
    """Find the chosen series of a folder, a zip or a file, and name them.

    A single series is named after the folder. With several studies, each is named after its subfolder, such as
    `patient1_study2`. If names are still equal, `_series` and the number are added.

    Args:
        path: a path accepted by `is_dicom_input`.
        choice: which series.
        channel: of the model.
        into_folder: whether several are allowed; one per study is used unless `choice` names some.

    Raises:
        UserError: no series, none of that name, or one output for several.
    """
    from stunet.imaging.formats.dicom.choose import choose, named
    from stunet.imaging.formats.dicom.found import find_series
    from stunet.imaging.formats.dicom.series import Reading

    found = find_series(path, Reading(choice.strict_geometry, choice.suv))

    modality = partial(_modality, channel)
    if choice.series is not None:
        chosen = named(found, choice.series)
    elif into_folder:
        chosen = _one_of_each_study(found, modality)
    else:
        chosen = [choose(found, modality)]
    if len(chosen) > 1 and not into_folder:
        raise OutputError(f"{path}: {len(chosen)} series are to be segmented, so -o must be a folder.")
    return _named(path, chosen)


def _modality(channel: Channel) -> str | None:
    from stunet.imaging.formats.dicom.choose import modality_of

    return modality_of(channel() or "")


def _one_of_each_study(found: "FoundSeries", modality: Callable[[], str | None]) -> "list[Series]":
    """The clearly best series of each study. If it is unclear, a series that raises the error when it is read."""
    from stunet.imaging.formats.dicom.choose import UnclearChoiceError, by_study, choose

    studies = by_study(found)
    if len(studies) < 2:
        return [choose(found, modality)]
    chosen = []
    for series in studies:
        try:
            chosen.append(choose(found, modality, series))
        except UnclearChoiceError as error:
            chosen.append(replace(series[0], refusal=str(error)))
    return chosen


def _named(path: Path, chosen: "list[Series]") -> list[ScanFile]:
    whole = path.stem if path.suffix.lower() in (".zip", ".dcm") else scan_name(path)
    if len(chosen) == 1:
        return [ScanFile(whole, None, chosen[0])]
    names = [_place(one, path) or whole for one in chosen]
    times = Counter(names)
    return [
        ScanFile(name if times[name] == 1 else f"{name}_series{one.number}", None, one)
        for name, one in zip(names, chosen, strict=True)
    ]


def _place(series: "Series", path: Path) -> str:
    """The path of a series below `path`, as part of a file name."""
    if not series.folder.is_relative_to(path):
        return ""
    return "_".join(series.folder.relative_to(path).parts)
