"""The line to a server: requests, and a sentence for whatever goes wrong."""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet.errors import FileError, UserError
from stunet.extras import from_extra

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 600.0
"""An answer may wait behind other work of the server, such as reading a large upload."""


class ServerError(UserError):
    """A server refused a request, or could not be reached; the message is its sentence.

    Attributes:
        status: of HTTP; None if there was no answer.
    """

    def __init__(self, sentence: str, status: int | None = None):
        super().__init__(sentence)
        self.status = status


class Connection:
    """Asks a server.

    Args:
        url: of the server.
        token: of the user; None for a server that needs none.
        certificate: file with the certificate of the authority that signed the server's; None for the usual ones.

    Raises:
        UserError: httpx is not installed, or the certificate cannot be read.
    """

    def __init__(self, url: str, token: str | None, certificate: str | Path | None):
        with from_extra("serve"):
            import httpx
        self.url = url
        headers = {"X-Stunet": "1"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._http = httpx.Client(
            base_url=f"{url}/api/v1",
            headers=headers,
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            verify=_trust(certificate),
        )

    def close(self) -> None:
        """Close it."""
        self._http.close()

    def json(self, method: str, path: str, **content: Any) -> Any:
        """What the server answers.

        Raises:
            ServerError: it refuses, or does not answer.
        """
        with self._explained():
            response = self._http.request(method, path, **content)
            _require_success(response, self.url)
            return response.json() if response.content else None

    @contextmanager
    def stream(self, path: str, parameters: dict[str, str] | None = None) -> Iterator["httpx.Response"]:
        """An answer that is read as it comes.

        Raises:
            ServerError: as `json`.
        """
        with self._explained(), self._http.stream("GET", path, params=parameters) as response:
            if response.is_error:
                response.read()
            _require_success(response, self.url)
            yield response

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of the connection, and answers that are not stunet's, as a sentence."""
        import httpx

        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error).strip().rstrip(".") or type(error).__name__
            raise ServerError(
                f"{self.url}: the server cannot be reached ({reason}). Is `stunet serve` running?"
            ) from error
        except (json.JSONDecodeError, TypeError, KeyError) as error:
            raise ServerError(f"{self.url}: is not a server of stunet; check the address.") from error


def _require_success(response: "httpx.Response", url: str) -> None:
    if response.is_success:
        return
    try:
        sentence = str(response.json()["error"])
    except (json.JSONDecodeError, TypeError, KeyError):
        sentence = f"{url}: answers {response.status_code}, as no server of stunet does; check the address."
    raise ServerError(sentence, response.status_code)


def _trust(certificate: str | Path | None) -> Any:
    """What httpx checks a server's certificate with."""
    if certificate is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(certificate))
    except (OSError, ValueError) as error:
        raise FileError(f"{certificate}: is not a readable certificate ({error}).") from error
