"""Find the scans of a batch: in folders, by patterns, in a store, or in a manifest."""

import glob
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from stunet.batch.dicom_scans import DicomChoice
from stunet.batch.find_scans import Case, join_channels, scan_file
from stunet.batch.listing import ListedFile, ListedScan
from stunet.batch.manifest import MANIFESTS, read_manifest
from stunet.batch.named_scans import dicom_left_out, scans_named
from stunet.batch.place import place
from stunet.batch.store import is_url, listed_in
from stunet.errors import FileError, UserError
from stunet.imaging.formats.registry import has_suffix

IN_STORE = (".nii", ".nii.gz", ".nrrd", ".mha", ".mgz", ".mgh", ".zip")
"""Suffixes of scans in a store, each of one file."""


def find_listed(
    sources: Sequence[str], choice: DicomChoice, channels: Sequence[str]
) -> tuple[list[ListedScan], list[str]]:
    """The scans that a user names.

    Args:
        sources: folders, files, patterns such as `scans/*_ct.nii.gz`, URLs, or manifests (`MANIFESTS`); one or several.
        choice: which DICOM series.
        channels: that the model takes.

    Returns:
        The scans in order of name, and sentences on what is left out.

    Raises:
        UserError: nothing there, a manifest that is no table of scans, or as `scans_named`.
    """
    files = [path for source in sources if not _is_special(source) for path in _matching(source)]
    found = scans_named(files, choice, lambda: channels[0]) if files else []
    scans = [_listed(case) for case in join_channels(found, len(channels))]
    for source in filter(_is_special, sources):
        scans += _in_manifests(source, len(channels)) if _is_manifest(source) else in_store(source, len(channels))
    _require_own_names(scans)
    return sorted(scans, key=lambda scan: scan.name), dicom_left_out(files, choice)


def _in_manifests(source: str, channels: int) -> list[ListedScan]:
    return [scan for path in _matching(source) for scan in read_manifest(path, channels)]


def in_store(url: str, channels: int) -> list[ListedScan]:
    """The scans in a store, from one listing of it.

    Args:
        url: of an image, or of a prefix with images and zips; folders of DICOM are named by a manifest.
        channels: that the model takes.

    Raises:
        UserError: there are none, or the store cannot be read.
    """
    urls = {Path(relative): found for relative, found in listed_in(url) if _is_whole(relative)}
    if not urls:
        raise FileError(f"{url}: there are no scans ({', '.join(IN_STORE)}).")
    files = [scan_file(path, "".join(f"{folder}_" for folder in path.parts[:-1])) for path in urls]
    return [_listed_in_store(case, urls) for case in join_channels(files, channels)]


def _listed_in_store(case: Case, urls: Mapping[Path, str]) -> ListedScan:
    files = [ListedFile(urls[file]) for file in case.files if isinstance(file, Path)]
    return ListedScan(case.name, tuple(files), case.problem)


def _is_whole(name: str) -> bool:
    """Whether a file has all of a scan: of some formats the voxels lie in another file."""
    return not Path(name).name.startswith(".") and has_suffix(Path(name), IN_STORE)


def _is_special(source: str) -> bool:
    """Whether a source is a manifest or a store, where no files of this machine are looked for."""
    return _is_manifest(source) or is_url(source)


def _is_manifest(source: str) -> bool:
    return source.lower().endswith(MANIFESTS)


def _matching(source: str) -> list[Path]:
    if is_url(source) or Path(source).exists() or not glob.has_magic(source):
        return [place(source)]
    paths = [Path(path) for path in sorted(glob.glob(source, recursive=True))]  # noqa: PTH207 (absolute patterns, too)
    if not paths:
        raise FileError(f"{source}: no file has a name like this.")
    return paths


def _listed(case: Case) -> ListedScan:
    refused = next((one.refusal for one in case.files if not isinstance(one, Path) and one.refusal), None)
    return ListedScan(case.name, tuple(map(ListedFile.of, case.files)), case.problem or refused)


def _require_own_names(scans: Iterable[ListedScan]) -> None:
    seen: dict[str, ListedScan] = {}
    for scan in scans:
        other = seen.setdefault(scan.name, scan)
        if other is not scan:
            both = " and ".join(str(one.files[0].path) for one in (other, scan))
            raise UserError(f"{both} have one name, {scan.name!r}, so their labels would be one file; rename one.")
