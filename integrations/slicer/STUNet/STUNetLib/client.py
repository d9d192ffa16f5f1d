"""A client of `stunet serve` with nothing but Python's own library, for the Python inside of other programs.

Errors are `ServerError`: one sentence for the user. Requests go to the server itself, past any proxy. No redirect is
followed, so that a token reaches nobody else.
"""

from __future__ import annotations

import json
import ssl
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

API_VERSION = 1
"""What this client speaks."""

BLOCK_BYTES = 2**20
"""Files are sent and received in such pieces."""

SECONDS = 600.0
"""An answer may wait behind other work of the server, such as reading a large scan."""

NO_HEADERS: Mapping[str, str] = {}

OnBytes = Callable[[int, int], None]
"""Called with how many bytes are done, and how many there are. What it raises ends the transfer."""


class ServerError(Exception):
    """A server refused, or cannot be reached; the message is a sentence for the user."""


@dataclass(frozen=True)
class Structure:
    """What a model finds.

    Attributes:
        name: such as "liver".
        group: such as "organs"; empty where it has none.
    """

    name: str
    group: str


@dataclass(frozen=True)
class Model:
    """A model of the server.

    Attributes:
        name: as jobs name it.
        summary: what it segments.
        modality: such as "CT".
        available: whether it is on the server.
        structures: what it finds; empty where it is not on the server.
    """

    name: str
    summary: str
    modality: str
    available: bool
    structures: tuple[Structure, ...]


@dataclass(frozen=True)
class Job:
    """A segmentation on the server.

    Attributes:
        name: of the job, which cannot be guessed.
        state: queued, running, done, failed or cancelled.
        stage: what is done now, such as "preprocessing".
        ahead: jobs before this one.
        window: windows that are done.
        windows: windows in all; 0 while that is not known.
        progress: 0 to 1.
        seconds_left: None while that is not known.
        error: why it failed.
        warnings: sentences that whoever uses the labels should read.
    """

    name: str
    state: str
    stage: str
    ahead: int
    window: int
    windows: int
    progress: float
    seconds_left: float | None
    error: str | None
    warnings: tuple[str, ...]


class Server:
    """A server of stunet.

    Args:
        url: such as "http://127.0.0.1:8000".
        token: of the user; empty for a server that needs none.
        certificate: file with the certificate of the authority that signed the server's; None for the usual ones.

    Raises:
        ServerError: an address of another form, or a certificate that cannot be read.
    """

    def __init__(self, url: str, token: str = "", certificate: str | Path | None = None):
        self.url = url.strip().rstrip("/")
        parts = _address(self.url)
        self._host, self._port, self._prefix = str(parts.hostname), parts.port, parts.path
        self._trust = _trust(certificate) if parts.scheme == "https" else None
        self._headers = {"X-Stunet": "1", "Accept": "application/json"}
        if token.strip():
            self._headers["Authorization"] = f"Bearer {token.strip()}"

    def require_same_version(self) -> str:
        """The version of the server, if this client can talk to it.

        Raises:
            ServerError: it cannot, or no server of stunet answers.
        """
        health = self._json("GET", "/health")
        version, api = str(health["version"]), health["api"]
        if api != API_VERSION:
            raise ServerError(
                f"{self.url} runs stunet {version} with version {api} of its interface, and this module speaks version "
                f"{API_VERSION}; install both from the same version of stunet."
            )
        return version

    def models(self) -> list[Model]:
        """What jobs may name."""
        return [
            Model(
                one["name"],
                one["summary"],
                one["modality"],
                one["available"],
                tuple(Structure(each["name"], each["group"]) for each in one["classes"]),
            )
            for one in self._json("GET", "/models")
        ]

    def upload(self, scan: Path, on_sent: OnBytes = lambda sent, total: None) -> str:
        """Send an image; its name stays here.

        Args:
            scan: NIfTI, NRRD or MetaImage in one file.
            on_sent: called after each piece.

        Returns:
            The scan, for `submit`.
        """
        boundary = uuid.uuid4().hex
        name = "scan" + "".join(scan.suffixes[-2:] if scan.suffix == ".gz" else scan.suffixes[-1:])
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        size = scan.stat().st_size

        def body() -> Iterator[bytes]:
            yield head
            sent = 0
            with scan.open("rb") as file:
                while block := file.read(BLOCK_BYTES):
                    yield block
                    sent += len(block)
                    on_sent(sent, size)
            yield tail

        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + size + len(tail)),
        }
        return str(self._json("POST", "/scans", body(), headers)["scan"])

    def submit(self, scan: str, model: str, classes: Sequence[str] = ()) -> Job:
        """Ask for a segmentation.

        Args:
            scan: what `upload` gave.
            model: its name.
            classes: the only structures; empty for all.
        """
        order = {"scan": scan, "model": model, "classes": list(classes) or None}
        headers = {"Content-Type": "application/json"}
        return _job(self._json("POST", "/jobs", json.dumps(order).encode(), headers))

    def job(self, name: str) -> Job:
        """A job as it is now."""
        return _job(self._json("GET", f"/jobs/{quote(name)}"))

    def cancel(self, name: str) -> None:
        """End a job that waits or runs."""
        self._json("POST", f"/jobs/{quote(name)}/cancel")

    def delete(self, name: str) -> None:
        """Erase a job and its results."""
        self._json("DELETE", f"/jobs/{quote(name)}")

    def delete_scan(self, scan: str) -> None:
        """Erase a scan."""
        self._json("DELETE", f"/scans/{quote(scan)}")

    def save(self, name: str, kind: str, path: Path, on_received: OnBytes = lambda received, total: None) -> None:
        """Write a result to a file, which appears only when it is whole.

        Args:
            name: of a job that is done.
            kind: "nifti", "seg.nrrd" or another of the server's formats.
            path: where.
            on_received: called after each piece; the total is 0 where the server does not say it.
        """
        partial = path.with_name(f".{path.name}.partial")
        received = 0
        try:
            with self._answer("GET", f"/jobs/{quote(name)}/results/{kind}") as answer, partial.open("wb") as file:
                total = int(answer.headers.get("Content-Length", 0))
                while block := answer.read(BLOCK_BYTES):
                    received += file.write(block)
                    on_received(received, total)
                if received < total:
                    raise ServerError(f"{self.url}: the result broke off; try again.")
            partial.replace(path)
        finally:
            if partial.exists():
                partial.unlink()

    def _json(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = NO_HEADERS) -> Any:
        with self._answer(method, path, body, headers) as answer:
            content = answer.read()
        try:
            return json.loads(content) if content else None
        except ValueError:
            raise self._no_server_of_stunet() from None

    @contextmanager
    def _answer(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = NO_HEADERS
    ) -> Iterator[HTTPResponse]:
        """The answer to a request, if it is a success.

        Raises:
            ServerError: it is none, or there is no answer.
        """
        connection = self._connection()
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # it answered before it had read everything
                connection.request(method, f"{self._prefix}/api/v1{path}", body, {**self._headers, **headers})
            answer = connection.getresponse()
            if not 200 <= answer.status < 300:
                raise self._refusal(answer)
            yield answer
        except (OSError, HTTPException) as error:
            reason = str(error).strip().rstrip(".") or type(error).__name__
            raise ServerError(f"{self.url} cannot be reached ({reason}). Is `stunet serve` running there?") from error
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        if self._trust is None:
            return HTTPConnection(self._host, self._port, timeout=SECONDS)
        return HTTPSConnection(self._host, self._port, timeout=SECONDS, context=self._trust)

    def _refusal(self, answer: HTTPResponse) -> ServerError:
        try:
            return ServerError(str(json.loads(answer.read(BLOCK_BYTES))["error"]))
        except (ValueError, TypeError, KeyError):
            return self._no_server_of_stunet()

    def _no_server_of_stunet(self) -> ServerError:
        return ServerError(f"{self.url} is not a server of stunet; check the address.")


def _address(url: str) -> SplitResult:
    """The parts of an address of a server."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and parts.hostname and not (parts.username or parts.query)
        is_good = is_good and (parts.port is None or parts.port > 0)
    except ValueError:
        is_good = False
    if not is_good:
        raise ServerError(f"{url or 'An empty line'} is not an address such as http://127.0.0.1:8000.")
    return parts


def _job(fields: Any) -> Job:
    return Job(
        name=fields["job"],
        state=fields["state"],
        stage=fields["stage"],
        ahead=fields["ahead"],
        window=fields["window"],
        windows=fields["windows"],
        progress=fields["progress"],
        seconds_left=fields["seconds_left"],
        error=fields["error"],
        warnings=tuple(fields["warnings"]),
    )


def _trust(certificate: str | Path | None) -> ssl.SSLContext:
    """What a server's certificate is checked with."""
    try:
        return ssl.create_default_context(cafile=None if certificate is None else str(certificate))
    except (OSError, ValueError) as error:
        raise ServerError(f"{certificate} is not a readable certificate ({error}).") from error
