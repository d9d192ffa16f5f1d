"""A local server that behaves like the Hugging Face Hub for downloads, including failures."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from stunet.weights.catalogue import CatalogueEntry

REPOSITORY = "someone/STU-Net"
FILE = "small_ep4k.model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def entry(approximate_bytes: int) -> CatalogueEntry:
    """The catalogue's entry of a `small` in this repository."""
    return CatalogueEntry("small", "small", "CT", "", "Apache-2.0", REPOSITORY, FILE, approximate_bytes)


def files_in(folder: Path) -> list[str]:
    """Names of the files in a folder, without locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@dataclass
class LoopbackHub:
    """One file in one repository.

    As on the Hub, `/<repository>/resolve/<revision>/<file>` redirects to another host, which holds the bytes.

    Attributes:
        repository, file, content: what is served.
        sha256_as_etag: answer with the content's SHA-256 as ETag, as the Hub does for large files.
        break_after: close the connection after this many bytes of an answer, as often as `breaks` says.
        stall_after: send this many bytes, then nothing more until `released` is set.
        ranges: where each answer of content began.
    """

    repository: str
    file: str
    content: bytes
    sha256_as_etag: bool = True
    break_after: int | None = None
    breaks: int = 0
    stall_after: int | None = None
    released: threading.Event = field(default_factory=threading.Event)
    ranges: list[int] = field(default_factory=list)
    port: int = 0

    @property
    def endpoint(self) -> str:
        """The value for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def etag(self) -> str:
        """In quotes, as HTTP requires."""
        digest = hashlib.sha256(self.content).hexdigest()
        return f'"{digest if self.sha256_as_etag else digest[:40]}"'

    def resolve_headers(self) -> dict[str, str]:
        """The Hub's headers for a file before it redirects."""
        return {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": self.etag,
            "X-Linked-Size": str(len(self.content)),
            "Location": f"http://localhost:{self.port}/storage",
        }

    @contextmanager
    def running(self) -> Iterator["LoopbackHub"]:
        """Serve until the block ends."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": self}))
        server.daemon_threads = True
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.released.set()
            server.shutdown()
            server.server_close()


class Handler(BaseHTTPRequestHandler):
    """Handles requests for the hub in its class attribute."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def _answer(self, with_content: bool) -> None:
        revisions = ("main", COMMIT)
        if self.path in [f"/{self.hub.repository}/resolve/{revision}/{self.hub.file}" for revision in revisions]:
            self._send(302, self.hub.resolve_headers())
        elif self.path == "/storage":
            self._send_content(with_content)
        else:
            self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})

    def _send(self, status: int, headers: dict[str, str], length: int = 0) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_content(self, with_content: bool) -> None:
        first = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        size = len(self.hub.content)
        span = {"Content-Range": f"bytes {first}-{size - 1}/{size}"} if first else {}
        self._send(206 if first else 200, {**span, "Accept-Ranges": "bytes"}, size - first)
        if with_content:
            self.hub.ranges.append(first)
            self._write(self.hub.content[first:])

    def _write(self, content: bytes) -> None:
        if self.hub.break_after is not None and self.hub.breaks > 0:
            self.hub.breaks -= 1
            self.wfile.write(content[: self.hub.break_after])
            self.wfile.flush()
            self.close_connection = True
        elif self.hub.stall_after is not None:
            self.wfile.write(content[: self.hub.stall_after])
            self.wfile.flush()
            self.hub.released.wait()
            self.close_connection = True
        else:
            self.wfile.write(content)
