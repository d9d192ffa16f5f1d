"""Files that survive a crash of the machine, and files that only one of several processes can create.

It works on a folder that several machines share. What it asks of the file system: a hard link or an exclusive create is
refused if the name exists, and a rename replaces a file at once. Local file systems, NFS 3 and newer, Lustre, GPFS and
CephFS do both.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from stunet.errors import OutputError
from stunet.files import made_folder

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""How file systems without hard links refuse one."""


def create_exclusively(path: Path, content: bytes, draft: Path) -> bool:
    """Create a file with this content, unless it exists. Of several processes that try at once, one succeeds.

    The content is written to a draft, flushed to the disk and linked to its name, so nobody sees half of it. Without
    hard links the file itself is created and then filled.

    Args:
        path: of the file; its folder exists.
        content: what it holds.
        draft: a name that no other process or thread uses, on the same file system.

    Returns:
        Whether this call created it.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    try:
        _write_through(draft, content, os.O_TRUNC)
        try:
            return _linked(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}).") from error


def _linked(draft: Path, path: Path) -> bool:
    try:
        os.link(draft, path)
    except FileExistsError:
        # over NFS the answer to a first request can be lost, and its repetition finds the link that it made
        return draft.stat().st_nlink > 1
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return _created(path, draft.read_bytes())
    sync_folder(path.parent)
    return True


def _created(path: Path, content: bytes) -> bool:
    with suppress(FileExistsError):
        _write_through(path, content, os.O_EXCL)
        sync_folder(path.parent)
        return True
    return False


def _write_through(path: Path, content: bytes, how: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o666), "wb") as file:  # noqa: PTH123 (a descriptor)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def put_in_place(source: Path, destination: Path) -> None:
    """Move a file to its final name on the same file system; after this it is there even if the machine crashes.

    Raises:
        UserError: it cannot be written.
    """
    made_folder(destination.parent)
    try:
        with source.open("rb+") as file:
            os.fsync(file.fileno())
        source.replace(destination)
    except OSError as error:
        raise OutputError(f"{destination}: cannot be written ({error.strerror or error}).") from error
    sync_folder(destination.parent)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the system can."""
    with suppress(OSError):  # Windows opens no folders, and some network file systems flush none
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and below it, in order of name."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path
