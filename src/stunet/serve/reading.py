"""Read uploads: what they contain, and the volume to segment. Runs in a separate process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stunet.errors import FileError, UserError
from stunet.imaging.scan import as_volume
from stunet.imaging.volume import Volume
from stunet.serve.answers import SeriesAnswer
from stunet.serve.own_voxels import require_own_voxels
from stunet.serve.stored_scan import files_in, images_in
from stunet.serve.wording import without_paths

if TYPE_CHECKING:
    from stunet.imaging.formats.dicom.series import Series


@dataclass(frozen=True)
class FoundScan:
    """The content of an upload; see `stunet.serve.answers.ScanAnswer`."""

    kind: Literal["image", "dicom"]
    shape: list[int] | None = None
    spacing: list[float] | None = None
    series: tuple[SeriesAnswer, ...] = ()
    chosen: int | None = None


def look_into(folder: Path) -> FoundScan:
    """Check that an upload can be segmented: read images completely, and the headers of DICOM.

    Raises:
        UserError: it cannot be segmented; the sentence names no file of the server.
    """
    try:
        return _found_image(folder) if images_in(folder) else _found_dicom(folder)
    except UserError as error:
        raise FileError(without_paths(str(error), folder)) from None


def read_scan(folder: Path, series: int | None, modality: Callable[[], str | None]) -> Volume:
    """The volume of an upload.

    Args:
        folder: of the upload.
        series: number of a DICOM series; None for the only or plainly best.
        modality: the model's name of its first channel; called only if there are DICOM series of several modalities.

    Raises:
        UserError: it cannot be read, no such series, or several that could be meant; it names no file of the server.
    """
    try:
        return _read_image(folder) if images_in(folder) else _series(folder, series, modality).read()
    except UserError as error:
        raise FileError(without_paths(str(error), folder)) from None


def _found_image(folder: Path) -> FoundScan:
    volume = _read_image(folder)
    return FoundScan("image", list(volume.shape), [round(mm, 4) for mm in volume.spacing])


def _read_image(folder: Path) -> Volume:
    images = images_in(folder)
    if len(images) < len(files_in(folder)):
        raise FileError("The upload mixes images and other files. Upload one image, or the DICOM files of a scan.")
    for path in images:
        require_own_voxels(path)
    return as_volume(images if len(images) > 1 else images[0])


def _found_dicom(folder: Path) -> FoundScan:
    from stunet.imaging.formats.dicom.choose import chosen_number
    from stunet.imaging.formats.dicom.found import find_series, nothing_found

    found = find_series(folder)
    if not found.series:
        raise nothing_found(found)
    answers = tuple(_series_answer(one, folder) for one in found.series)
    return FoundScan("dicom", series=answers, chosen=chosen_number(found))


def _series_answer(series: "Series", folder: Path) -> SeriesAnswer:
    return SeriesAnswer(
        number=series.number,
        modality=series.modality,
        description=series.stack.slices[0].facts.description,
        slices=len(series.stack.slices),
        spacing=[round(mm, 4) for mm in series.stack.spacing],
        suitable=not series.refusal,
        remark=without_paths("; ".join(series.remarks), folder),
    )


def _series(folder: Path, number: int | None, modality: Callable[[], str | None]) -> "Series":
    from stunet.imaging.formats.dicom.choose import UnclearChoiceError, choose, modality_of
    from stunet.imaging.formats.dicom.found import find_series

    found = find_series(folder)
    if number is not None:
        series = found.numbered(number)
        if series is None:
            raise FileError(f"The scan has no series {number}.")
        return series
    try:
        return choose(found, lambda: modality_of(modality() or ""))
    except UnclearChoiceError:
        raise FileError("The scan has several series, and none is clearly the best. Choose one.") from None
