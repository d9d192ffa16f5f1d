"""Find the files that may be DICOM: below a folder, in a zip, or one alone. Needs no DICOM library.

Nothing is unpacked: members of a zip, and gzipped files, are read where they are.
"""

import gzip
import io
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from stunet.errors import FileError, UnsafeFileError

MAX_DEPTH = 12
"""Levels of subfolders to search."""

MAX_FILES = 200_000
"""Most files below a folder, or in a zip."""

FREE_BYTES = 64 * 2**20
"""Any compressed file may unpack to this size, however small it is: a slice of air compresses well."""

MAX_RATIO = 30
"""Above `FREE_BYTES`, a compressed file may unpack to at most this multiple of its size. Scans stay below 10."""

MAX_ZIP_BYTES = 64 * 2**30
"""Total size to which the members of a zip may unpack."""

HEAD_BYTES = 136
"""Preamble, mark, and the group of the first element."""

_MARK = b"DICM"
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
"""A file without preamble begins with an element of group 2 or 8, in either byte order."""

_ZIP_MARK, _GZIP_MARK = b"PK\x03\x04", b"\x1f\x8b"


@dataclass(frozen=True, eq=False)
class Source:
    """A file, or a member of a zip.

    Attributes:
        path: the file, or the zip.
        size: in bytes; of a member, unpacked.
        member: name within the zip; empty for a file.
    """

    path: Path
    size: int
    member: str = ""
    _archive: zipfile.ZipFile | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The file's name, without its folders."""
        return PurePosixPath(self.member).name if self.member else self.path.name

    @property
    def folder(self) -> Path:
        """Its folder; for a member, as if the zip were a folder."""
        return (self.path / self.member).parent

    @property
    def is_gzipped(self) -> bool:
        """Whether its name says so; `size` is then the packed size."""
        return self.name.lower().endswith(".gz")

    def __str__(self) -> str:
        return str(self.path / self.member) if self.member else str(self.path)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The bytes, unpacked, as a file that can seek.

        Raises:
            UserError: they unpack to more than a scan would.
            OSError, EOFError, zipfile.BadZipFile, zlib.error: they cannot be read.
        """
        with self._raw() as raw:
            if raw.read(2) != _GZIP_MARK:
                raw.seek(0)
                yield raw
                return
            raw.seek(0)
            yield io.BytesIO(_unpacked(raw, self))

    def _raw(self) -> BinaryIO:
        if self._archive is not None:
            return cast(BinaryIO, self._archive.open(self.member))
        return _BoundedFile(self.path)


class _BoundedFile(io.BufferedReader):
    """A file that allocates no more than it has bytes, whatever length an element claims."""

    def __init__(self, path: Path):
        super().__init__(io.FileIO(path))
        self._bytes = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes, all that are left if `size` is negative."""
        if size is not None and 0 <= size <= io.DEFAULT_BUFFER_SIZE:
            return super().read(size)
        left = max(0, self._bytes - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def _unpacked(raw: BinaryIO, source: Source) -> bytes:
    limit = max(FREE_BYTES, MAX_RATIO * source.size)
    content = gzip.GzipFile(fileobj=raw).read(limit + 1)
    if len(content) > limit:
        raise UnsafeFileError(f"{source}: unpacks to more than {limit:,} bytes, which no scan does; leave it out.")
    return content


def looks_like_dicom(path: Path) -> bool:
    """Whether a file begins like DICOM, gzipped or not. A file without preamble may still be of another kind."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if head[:2] == _GZIP_MARK:
            with gzip.open(path) as packed:
                head = packed.read(HEAD_BYTES)
    except (OSError, EOFError):
        return False
    return has_preamble(head) or may_lack_preamble(head)


def has_preamble(head: bytes) -> bool:
    """Whether the first bytes of a file are DICOM's."""
    return head[128:132] == _MARK


def may_lack_preamble(head: bytes) -> bool:
    """Whether the first bytes of a file are an element of group 2 or 8."""
    element = head[2:4] if head[:1] != b"\x00" else head[3:1:-1]
    return head[:2] in _FIRST_GROUPS and element[1:] == b"\x00"


def is_zip(path: Path) -> bool:
    """Whether a file is a zip, by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(4) == _ZIP_MARK
    except OSError:
        return False


def is_dicom_file(path: Path) -> bool:
    """Whether to read a file without an image's name as DICOM: if it begins like DICOM, or is a zip."""
    return path.is_file() and (is_zip(path) or looks_like_dicom(path))


def holds_dicom(folder: Path) -> bool:
    """Whether a folder or one of its subfolders holds a zip or a file that begins like DICOM, within the limits."""
    with suppress(FileError):  # it is too deep or too large, or may not be listed: images may be found all the same
        return any(
            (path.suffix.lower() == ".zip" and is_zip(path)) or looks_like_dicom(path)
            for path in _files_below(folder)
            if not path.name.lower().endswith((".nii", ".nii.gz"))
        )
    return False


def dicom_folders(folder: Path, levels: int) -> list[Path]:
    """The folders with DICOM files: this one, and those up to `levels` below it."""
    with suppress(FileError):
        entries = _listed(folder)
        own = [folder] if any(looks_like_dicom(Path(entry.path)) for entry in entries if entry.is_file()) else []
        below = [Path(entry.path) for entry in entries if levels and entry.is_dir(follow_symlinks=False)]
        return own + [found for subfolder in below for found in dicom_folders(subfolder, levels - 1)]
    return []


def sources_in(path: Path) -> Iterator[Source]:
    """All files of `path`, in order of name. Hidden files and links to folders are skipped.

    Args:
        path: a folder with its subfolders, a zip, or a file. A zip in a folder is opened, a zip in a zip is not.

    Raises:
        UserError: a folder that cannot be listed or holds too much, or a zip that is damaged, encrypted or hostile.
    """
    for file in _files_below(path) if path.is_dir() else (path,):
        if is_zip(file):
            yield from _members(file)
        else:
            yield Source(file, _size(file))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # a link to nothing; reading it says so


def _files_below(folder: Path) -> Iterator[Path]:
    """Files in and below a folder."""
    for count, path in enumerate(_walk(folder, MAX_DEPTH)):
        if count == MAX_FILES:
            raise FileError(f"{folder}: holds more than {MAX_FILES:,} files; give a folder with fewer scans.")
        yield path


def _walk(folder: Path, levels: int) -> Iterator[Path]:
    """The files of a folder, then those of its subfolders, up to `levels` below it."""
    entries = _listed(folder)
    yield from (Path(entry.path) for entry in entries if entry.is_file())
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if not levels:
                raise FileError(f"{folder}: lies more than {MAX_DEPTH} folders deep; give the folder with the scan.")
            yield from _walk(Path(entry.path), levels - 1)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((one for one in entries if not one.name.startswith(".")), key=lambda one: one.name)
    except OSError as error:
        raise FileError(f"{folder}: cannot be listed ({error.strerror or error}).") from error


def _members(path: Path) -> Iterator[Source]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise FileError(f"{path}: is a damaged zip ({error}); copy or download it again.") from error
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    _check_zip(path, entries)
    for entry in sorted(entries, key=lambda one: one.filename):
        if not any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(entry.filename).parts):
            yield Source(path, entry.file_size, entry.filename, archive)


def _check_zip(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse a zip that no export of scans can be, before anything is unpacked."""
    if len(entries) > MAX_FILES:
        raise UnsafeFileError(f"{path}: holds {len(entries):,} files, and {MAX_FILES:,} are possible; unpack a part.")
    for entry in entries:
        _check_member(path, entry)
    total, packed = (sum(getattr(one, size) for one in entries) for size in ("file_size", "compress_size"))
    if total > MAX_ZIP_BYTES or total > max(FREE_BYTES, MAX_RATIO * packed):
        raise UnsafeFileError(
            f"{path}: would unpack from {packed:,} to {total:,} bytes, which no scan does. Nothing was unpacked."
        )


def _check_member(path: Path, entry: zipfile.ZipInfo) -> None:
    parts = PurePosixPath(entry.filename.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        raise UnsafeFileError(f"{path}: {entry.filename!r} lies outside the zip. Nothing was unpacked.")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise UnsafeFileError(f"{path}: {entry.filename!r} is a link. Nothing was unpacked.")
    if entry.flag_bits & 1:
        raise FileError(f"{path}: is encrypted; unpack it, and give the folder.")
    if entry.file_size > max(FREE_BYTES, MAX_RATIO * entry.compress_size):
        raise UnsafeFileError(
            f"{path}: {entry.filename!r} would unpack from {entry.compress_size:,} to {entry.file_size:,} bytes, which "
            "no scan does. Nothing was unpacked."
        )
