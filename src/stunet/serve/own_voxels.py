"""Whether an image file holds its voxels itself. A header that names another file could name one of the server's.

NRRD and MetaImage headers are looked at more strictly than their readers do: what might be a reference counts as one.
"""

import re
from pathlib import Path

from stunet.errors import UnsafeFileError

ONE_FILE = (".nii", ".nii.gz", ".nrrd", ".mha", ".mgz", ".mgh")
"""Suffixes of images that are one file. Headers that name another file are refused: it could lie anywhere."""

HEADER_BYTES = 1 << 16
"""A header that is longer is refused."""

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_NRRD_REFERENCE = re.compile(rb"data\s*file\s*:", re.IGNORECASE)
_META_FIELD = re.compile(rb"elementdatafile", re.IGNORECASE)
_META_LOCAL = re.compile(rb"elementdatafile\s*[=:]\s*local\s*[\r\n]", re.IGNORECASE)


def require_own_voxels(path: Path) -> None:
    """Refuse an image whose header names another file.

    Raises:
        UserError: it does, or its header is too long to tell.
    """
    check = _CHECKS.get(path.suffix.lower())
    if check is None:
        return
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if not check(head):
        raise UnsafeFileError(f"{path}: its voxels are in another file, or its header is damaged; save it as one file.")


def _is_whole_nrrd(head: bytes) -> bool:
    end = _BLANK_LINE.search(head)
    return end is not None and _NRRD_REFERENCE.search(head, 0, end.start()) is None


def _is_whole_meta_image(head: bytes) -> bool:
    first = _META_FIELD.search(head)
    return first is not None and _META_LOCAL.match(head, first.start()) is not None


_CHECKS = {".nrrd": _is_whole_nrrd, ".mha": _is_whole_meta_image}
