"""The files of a scan on this machine: themselves, or copies of what lies in a store."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256

from stunet.batch.listing import ListedFile
from stunet.batch.scratch import scratch
from stunet.batch.store import fetch, is_url
from stunet.errors import UserError
from stunet.imaging.volume import Volume


class Copies:
    """The copies of one scan. They stay until its outputs are written, because slices may be read again.

    Args:
        scan: by name.
    """

    def __init__(self, scan: str):
        self._name = sha256(scan.encode("utf-8", "surrogateescape")).hexdigest()[:40]
        self._urls: dict[str, str] = {}

    def of(self, file: ListedFile) -> ListedFile:
        """A file of this machine as it is; a copy of one in a store.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        if not is_url(file.path):
            return file
        folder = scratch() / "inputs" / self._name
        copy = folder / str(len(self._urls)) / file.path.rstrip("/").rpartition("/")[2]
        self._urls[str(copy)] = file.path
        fetch(file.path, copy)
        return replace(file, path=str(copy))

    @contextmanager
    def named(self) -> Iterator[None]:
        """Within, errors name the file in the store, not its copy."""
        try:
            yield
        except UserError as error:
            raise type(error)(self._with_urls(str(error))) from error

    def renamed(self, volume: Volume) -> Volume:
        """A scan that was read from copies, with the names of the files in the store."""
        if not self._urls:
            return volume
        warnings = tuple(map(self._with_urls, volume.warnings))
        return replace(volume, source=self._with_urls(volume.source), warnings=warnings)

    def remove(self) -> None:
        """Remove the copies."""
        if self._urls:
            shutil.rmtree(scratch() / "inputs" / self._name, ignore_errors=True)

    def _with_urls(self, sentence: str) -> str:
        for copy, url in self._urls.items():
            sentence = sentence.replace(copy, url)
        return sentence
