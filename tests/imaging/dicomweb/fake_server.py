"""A DICOMweb server of a few lines that does what a test wants it to do wrong."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pydicom

from tests.phantoms import smooth_scan, write_dicom_series

STUDY, SERIES = "1.2.3.6", "1.2.3.5"
PATH = f"/studies/{STUDY}/series/{SERIES}"

BOUNDARY = "part"


@dataclass(frozen=True)
class Answer:
    """What is sent.

    Attributes:
        status: of HTTP.
        content_type: of the body.
        body: all of it.
        promised: bytes that the header claims; None for as many as there are.
        headers: others.
    """

    status: int = 200
    content_type: str = "application/dicom+json"
    body: bytes = b""
    promised: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class FakeServer:
    """A server with one series.

    Attributes:
        instances: the bytes of each file, by SOPInstanceUID.
        answer: looks at the method and the path of a request first; None for what a good server does.
        asked: method, path and headers of all requests.
        received: bodies that were sent to it.
        port: where it listens.
    """

    instances: dict[str, bytes] = field(default_factory=dict)
    answer: Callable[[str, str], Answer | None] = lambda method, path: None
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        """Of the server."""
        return f"dicomweb://127.0.0.1:{self.port}"

    def retrieved(self) -> list[str]:
        """The instances that were asked for."""
        return [path.rpartition("/")[2] for _, path, _ in self.asked if "/instances/" in path]

    def answered(self, method: str, url: str) -> Answer:
        """What is sent for a request."""
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        wrong = self.answer(method, path)
        if wrong is not None:
            return wrong
        if method == "POST":
            return Answer(body=b"{}")
        if path.endswith("/instances"):
            start, count = (int(query.get(name, ["0"])[0]) for name in ("offset", "limit"))
            return as_json(
                [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in self.instances][start : start + count]
            )
        uid = path.rpartition("/")[2]
        return multipart(self.instances[uid]) if uid in self.instances else Answer(404)


def as_json(content: object) -> Answer:
    """Datasets as JSON."""
    return Answer(body=json.dumps(content).encode())


def multipart(content: bytes) -> Answer:
    """One DICOM file."""
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = head + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    return Answer(content_type=f'multipart/related; type="application/dicom"; boundary={BOUNDARY}', body=body)


def files_of_a_series(folder: Path) -> dict[str, bytes]:
    """Write a series of 8 slices; its files by SOPInstanceUID."""
    paths = write_dicom_series(folder, smooth_scan((8, 18, 12)), PatientName="Zweifelhaft^Qorina")
    return {str(pydicom.dcmread(path).SOPInstanceUID): path.read_bytes() for path in paths}


@contextmanager
def serving(server: FakeServer) -> Iterator[FakeServer]:
    """Answer on a free port until the end."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append((self.command, self.path, dict(self.headers)))
            answer = server.answered(self.command, self.path)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body) if answer.promised is None else answer.promised))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)
            self.close_connection = True

        def do_POST(self) -> None:
            server.received.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        server.port = listener.server_port
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()
