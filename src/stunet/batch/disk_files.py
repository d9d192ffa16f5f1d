"""The files of a batch in a folder, on a disk that one or many machines see."""

import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from stunet.batch.durable import create_exclusively, put_in_place
from stunet.files import made_folder, replacing, require_writable


class DiskFiles:
    """Implements `place.Files` for a folder.

    Args:
        ledger: the folder of the ledger, for drafts.
        name: of the process that writes.
    """

    def __init__(self, ledger: Path, name: str):
        self._ledger = ledger
        self._name = name
        self._drafts = count()

    def create(self, path: Path, content: bytes) -> bool:
        """Create a file, unless it exists; see `create_exclusively`."""
        draft = made_folder(self._ledger / "drafts") / f"{self._name}.{next(self._drafts)}"
        made_folder(path.parent)
        return create_exclusively(path, content, draft)

    def write(self, path: Path, content: bytes) -> None:
        """Write a file, or replace it."""
        made_folder(path.parent)
        with replacing(path) as temporary:
            temporary.write_bytes(content)

    def put(self, source: Path, destination: Path) -> None:
        """Flush a file to the disk and rename it."""
        put_in_place(source, destination)

    def read(self, path: Path) -> bytes:
        """The content of a file."""
        return path.read_bytes()

    def exists(self, path: Path) -> bool:
        """Whether there is a file."""
        return path.exists()

    def names(self, folder: Path) -> Iterator[str]:
        """The names of all files in a folder and below it."""
        for _, _, files in os.walk(folder):
            yield from files

    def staging(self) -> Path:
        """On the disk of the outputs, so that they can be renamed."""
        return self._ledger / "staging" / self._name

    def clean(self) -> None:
        """Remove what was not put in place."""
        shutil.rmtree(self._ledger / "staging", ignore_errors=True)

    def require_writable(self, folder: Path) -> None:
        """Write a little, and remove it."""
        require_writable(folder)
