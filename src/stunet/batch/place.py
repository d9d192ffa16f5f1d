"""Where a batch lies: a folder, or a prefix in a store such as S3 that fsspec reaches.

Both are paths: of pathlib, or of universal_pathlib, which reads a store in the same way. They differ in how files are
written, and in how only one of several workers creates one.
"""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from stunet.batch.disk_files import DiskFiles
from stunet.batch.store import StoreFiles, is_url, path_in_store


def place(text: str | Path) -> Path:
    """An absolute path, or the path in a store; see the module.

    Raises:
        UserError: a store of an unknown kind, or whose packages are not installed.
    """
    return path_in_store(str(text)) if is_url(str(text)) else Path(text).absolute()


class Files(Protocol):
    """Writes the files of a batch."""

    def create(self, path: Path, content: bytes) -> bool:
        """Create a file, unless it exists. It appears whole, and of several processes one succeeds.

        Returns:
            Whether this call created it.

        Raises:
            UserError: it cannot be written.
        """
        ...

    def write(self, path: Path, content: bytes) -> None:
        """Write a file, or replace it.

        Raises:
            UserError: it cannot be written.
        """
        ...

    def put(self, source: Path, destination: Path) -> None:
        """Move a file of this machine to its final name, where it appears whole and stays.

        Raises:
            UserError: it cannot be written.
        """
        ...

    def read(self, path: Path) -> bytes:
        """The content of a file.

        Raises:
            OSError: there is none, or it cannot be read.
        """
        ...

    def exists(self, path: Path) -> bool:
        """Whether there is a file.

        Raises:
            UserError: this cannot be found out.
        """
        ...

    def names(self, folder: Path) -> Iterator[str]:
        """The names of all files in a folder and below it, in no order; none if there is no folder."""
        ...

    def staging(self) -> Path:
        """A folder on this machine, this process's only, from which `put` moves files."""
        ...

    def clean(self) -> None:
        """Remove what any process prepared; all scans are final."""
        ...

    def require_writable(self, folder: Path) -> None:
        """Raise UserError if batches cannot be written there."""
        ...


def files_at(ledger: Path, name: str | None = None) -> Files:
    """How files are written in a batch.

    Args:
        ledger: the folder of its ledger.
        name: of the process that writes, no other's; by default one that is made up.
    """
    name = name or secrets.token_hex(8)
    return DiskFiles(ledger, name) if isinstance(ledger, Path) else StoreFiles(name)
