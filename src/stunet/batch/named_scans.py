"""Find the scans that a user means by file and folder names, and explain what is ambiguous."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stunet.batch.dicom_scans import Channel, DicomChoice, dicom_scans, is_dicom_input
from stunet.batch.find_scans import NESTED_LEVELS, ScanFile, is_folder_of_scans, require_scans, scan_file, scan_files
from stunet.errors import FileError, UserError, listed
from stunet.imaging.formats.dicom.find import dicom_folders


def scans_named(
    paths: Sequence[Path],
    dicom: DicomChoice = DicomChoice(),  # noqa: B008 (frozen)
    channel: Channel = lambda: None,
    into_folder: bool = True,
) -> list[ScanFile]:
    """The named scans, and those in the named folders.

    If files from several folders have the same name, their folder's name is added in front.

    Args:
        paths: files, folders or zips with DICOM, or folders of scans.
        dicom: which DICOM series.
        channel: the model's name for its first channel; see `dicom_scans`.
        into_folder: whether the labels of all scans go into one folder.

    Raises:
        UserError: a path does not exist, a folder is empty, DICOM options are given without DICOM input, or as
            `dicom_scans`.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     paths = [Path(folder, name) for name in ("day1/ct.nii", "day2/ct.nii.gz", "day2/pet.nii")]
    ...     for path in paths:
    ...         path.parent.mkdir(exist_ok=True)
    ...         path.touch()
    ...     [scan.name for scan in scans_named(paths)]
    ['day1_ct', 'day2_ct', 'pet']
    """
    found = [named for path in paths for named in _scans_at(path, dicom, channel, into_folder)]
    if dicom != DicomChoice() and all(isinstance(scan.path, Path) for scan, _ in found):
        raise UserError("--series, --strict-geometry and --suv are for DICOM, and the input is none.")
    doubled = _names_in_several_places(found)
    return [replace(scan, name=f"{place.name}_{scan.name}") if scan.name in doubled else scan for scan, place in found]


def _names_in_several_places(found: Sequence[tuple[ScanFile, Path]]) -> set[str]:
    origins: dict[str, set[Path]] = {}
    for scan, place in found:
        origins.setdefault(scan.numbered_name, set()).add(place)
    return {scan.name for scan, _ in found if len(origins[scan.numbered_name]) > 1}


def _scans_at(path: Path, dicom: DicomChoice, channel: Channel, into_folder: bool) -> list[tuple[ScanFile, Path]]:
    """The scans of a path, each with the folder in which its name is defined."""
    inside = _scans_in(path, dicom, channel, into_folder)
    is_itself = len(inside) == 1 and (inside[0].path == path or not isinstance(inside[0].path, Path))
    place = (path.parent if is_itself else path).resolve()
    return [(scan, place) for scan in inside]


def _scans_in(path: Path, dicom: DicomChoice, channel: Channel, into_folder: bool) -> list[ScanFile]:
    """The named scan, or those in the named folder."""
    if not path.exists():
        raise FileError(f"{path}: no such file or folder.")
    if path.is_dir():
        require_scans(path)
    if is_dicom_input(path, dicom, into_folder):
        return dicom_scans(path, dicom, channel, into_folder)
    return (scan_files(path) if path.is_dir() else []) or [scan_file(path)]


def dicom_left_out(paths: Sequence[Path], dicom: DicomChoice = DicomChoice()) -> list[str]:  # noqa: B008 (frozen)
    """A sentence for each folder of scans that also contains DICOM files, if those are not named themselves."""
    sentences: list[str] = []
    if dicom.series is not None:
        return sentences
    named = {path.resolve() for path in paths}
    for path in filter(is_folder_of_scans, paths):
        folders = dicom_folders(path, NESTED_LEVELS)
        below = [folder for folder in folders if folder.resolve() not in named]
        if path in folders:
            sentences.append(
                f"{path}: its DICOM files are not segmented, because it holds scans in other formats. To segment them, "
                "move them to a folder of their own, and give that folder to -i."
            )
        if below:
            sentences.append(
                f"{path}: the DICOM files in {listed(below)} are not segmented, because there are scans in other "
                f"formats in {path}. To segment them, give these folders to -i, too."
            )
    return sentences
