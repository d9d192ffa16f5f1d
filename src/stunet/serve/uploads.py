"""Write the files of a multipart request to disk while they arrive, within the limits."""

import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import anyio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from stunet.files import removed_on_failure
from stunet.serve.refusal import RefusedError
from stunet.serve.settings import Limits
from stunet.serve.stored_scan import FileNames

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

KEPT_FREE = 2**30
"""Bytes of disk space that uploads leave free."""

FIELD = "file"
"""Name of the parts that are files."""


@dataclass(frozen=True)
class Received:
    """What was received.

    Attributes:
        files: how many were kept.
        bytes: of these.
    """

    files: int
    bytes: int


class Gate:
    """Limits the number of uploads that arrive at once.

    Args:
        most: uploads.
    """

    def __init__(self, most: int):
        self._free = most

    @asynccontextmanager
    async def one_more(self) -> AsyncIterator[None]:
        """Hold a place while an upload arrives.

        Raises:
            RefusedError: none is free.
        """
        if not self._free:
            raise RefusedError(429, "Many uploads arrive at the moment. Try again in a minute.")
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


async def receive_files(request: Request, folder: Path, limits: Limits) -> Received:
    """Write the files of a request below a folder, which is removed again if anything goes wrong.

    Raises:
        RefusedError: no multipart request, no file, too much of anything, too slow, or no room on the disk.
    """
    folder.mkdir(parents=True)
    try:
        with removed_on_failure(folder), anyio.fail_after(limits.upload_seconds):
            return await _receive(request, folder, limits)
    except TimeoutError as error:
        raise RefusedError(408, "The upload took too long; try again with a faster connection.") from error
    except OSError as error:
        raise RefusedError(507, "The server has no room for this scan.") from error


async def _receive(request: Request, folder: Path, limits: Limits) -> Received:
    _require_size(request.headers, limits.upload_bytes)
    parts = _Parts(folder, limits)
    try:
        parser = MultipartParser(_boundary(request.headers), parts.callbacks())
        stream = request.stream()
        while chunk := await _next(stream, limits.idle_seconds):
            parts.require_room(len(chunk))
            parser.write(chunk)
        parser.finalize()
    except (FormParserError, ClientDisconnect) as error:
        raise RefusedError(400, "The upload broke off, or is no multipart request.") from error
    finally:
        parts.close()
    if not parts.is_whole:
        raise RefusedError(400, "The upload broke off.")
    if not parts.files:
        raise RefusedError(422, f"There is no file in the request; send it as a part named {FIELD!r}.")
    return Received(parts.files, parts.bytes)


async def _next(stream: AsyncIterator[bytes], idle_seconds: float) -> bytes:
    """The next part; empty at the end."""
    while True:
        try:
            with anyio.fail_after(idle_seconds):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return b""
        if chunk:
            return chunk


def _require_size(headers: Mapping[str, str], most: int) -> None:
    """Refuse a request whose header says that it is too large."""
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise _too_large(most)


def _too_large(most: int) -> RefusedError:
    return RefusedError(413, f"The upload is larger than the {most / 2**20:,.0f} MiB that this server takes.")


def _boundary(headers: Mapping[str, str]) -> bytes:
    kind, options = parse_options_header(headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise RefusedError(415, "Send the scan as multipart/form-data.")
    return options[b"boundary"]


class _Parts:
    """What the parser calls: opens, fills and closes one file after the other."""

    def __init__(self, folder: Path, limits: Limits):
        self._names, self._limits, self._folder = FileNames(folder), limits, folder
        self._header = [b"", b""]
        self._headers: dict[bytes, bytes] = {}
        self._file: BinaryIO | None = None
        self._came = 0
        self.files = self.bytes = 0
        self.is_whole = False

    def callbacks(self) -> "MultipartCallbacks":
        """By the names that the parser has for them."""
        return {
            "on_part_begin": self._headers.clear,
            "on_header_begin": self._begin_header,
            "on_header_field": lambda data, start, end: self._add_to_header(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._add_to_header(1, data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._open,
            "on_part_data": self._write,
            "on_part_end": self.close,
            "on_end": self._end,
        }

    def require_room(self, size: int) -> None:
        """Refuse bytes that are too many, before they are written."""
        self._came += size
        if self._came > self._limits.upload_bytes:
            raise _too_large(self._limits.upload_bytes)
        if shutil.disk_usage(self._folder).free < KEPT_FREE:
            raise RefusedError(507, "The server has no room for this scan.")

    def close(self) -> None:
        """The present file is whole, or is given up."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin_header(self) -> None:
        self._header = [b"", b""]

    def _add_to_header(self, side: int, text: bytes) -> None:
        self._header[side] += text

    def _end_header(self) -> None:
        name, value = self._header
        self._headers[name.lower()] = value

    def _open(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if options.get(b"name") != FIELD.encode() or not options.get(b"filename"):
            return
        place = self._names.place(options[b"filename"].decode("utf-8", "replace"))
        if place is None:
            return
        self.files += 1
        if self.files > self._limits.upload_files:
            raise RefusedError(413, f"A scan has at most {self._limits.upload_files:,} files on this server.")
        self._file = place.open("xb")

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            self.bytes += end - start

    def _end(self) -> None:
        self.is_whole = True
