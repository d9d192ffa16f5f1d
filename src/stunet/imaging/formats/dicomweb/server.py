"""A connection to a DICOMweb server: who asks, how much it may answer, and its failures as sentences."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from stunet.errors import FileError, OutputError, UnsafeFileError, UserError
from stunet.extras import from_extra
from stunet.imaging.formats.dicomweb.address import Address

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient
    from requests import Response, Session

logger = logging.getLogger(__name__)

CONNECT_SECONDS, ANSWER_SECONDS = 10, 300
"""How long a server may take to be reached, and then to send the next bytes; an archive on tape takes its time."""

ATTEMPTS, FIRST_WAIT_MS = 3, 250
"""Questions that a busy server is asked again, and the wait before the second attempt, which doubles each time."""

BROKEN = ("aborted", "broken", "reset", "timed out")
"""Words of a connection that was there once."""

NOT_DICOMWEB = "the server's answer is not DICOMweb. Check the address."

MOST_BYTES = 4 * 2**30
"""What one answer may have, unpacked: more than any file of a series."""


def require_client() -> None:
    """Raises MissingPackageError if dicomweb-client is not installed."""
    with from_extra("dicom"):
        import dicomweb_client  # noqa: F401


@contextmanager
def connection(address: Address, doing: str, sending: bool = False) -> Iterator["DICOMwebClient"]:
    """A client of the server. What goes wrong inside is raised as a sentence.

    Who asks is read from the environment: `STUNET_DICOMWEB_TOKEN`, or `STUNET_DICOMWEB_USER` and
    `STUNET_DICOMWEB_PASSWORD`. Nothing of these is printed.

    Args:
        address: of the server, or of what is asked for, for messages.
        doing: what is done, as in "cannot ...".
        sending: whether results are sent; these are sent once only.

    Raises:
        UserError: the server can't be reached, refuses, knows nothing of the address, or answers what is no DICOM.
    """
    require_client()
    from dicomweb_client import DICOMwebClient

    for library in ("dicomweb_client", "retrying"):  # they log what servers say, and tracebacks
        logging.getLogger(library).setLevel(logging.CRITICAL)
    with _session(address) as session, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = DICOMwebClient(address.service, session, timeout=(CONNECT_SECONDS, ANSWER_SECONDS))
        client.set_http_retry_params(not sending, ATTEMPTS, FIRST_WAIT_MS)
        with _explained(address, doing, OutputError if sending else FileError):
            yield client


def _session(address: Address) -> "Session":
    from requests import Session
    from requests.auth import HTTPBasicAuth

    session = Session()
    session.hooks["response"].append(partial(_bound, address))
    if address.is_loopback:
        session.trust_env = False  # a proxy cannot reach this machine
    token, user, password = (
        os.environ.get(f"STUNET_DICOMWEB_{name}", "").strip() for name in ("TOKEN", "USER", "PASSWORD")
    )
    if token:
        session.auth = _with_token(token)
    elif user:
        session.auth = HTTPBasicAuth(user.encode(), password.encode())
    if session.auth and address.scheme == "http" and not address.is_loopback:
        logger.warning(f"{address.host}: the password or token is sent unencrypted, because the address says http.")
    return session


def _with_token(token: str) -> Callable[[Any], Any]:
    """What gives a request its token; a redirect to another host goes without."""

    def authorize(request: Any) -> Any:
        """Set the header."""
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return authorize


def _bound(address: Address, response: "Response", **_: Any) -> None:
    """Let a response end with an error where it is longer than any answer."""
    whole = response.iter_content

    def bounded(*arguments: Any, **options: Any) -> Iterator[bytes]:
        """The same pieces, counted."""
        total = 0
        for piece in whole(*arguments, **options):
            total += len(piece)
            if total > MOST_BYTES:
                response.close()
                raise UnsafeFileError(
                    f"{address}: the server sent more than {MOST_BYTES:,} bytes at once, more than any file of a scan."
                )
            yield piece

    response.iter_content = bounded  # type: ignore[method-assign]


@contextmanager
def _explained(address: Address, doing: str, kind: type[UserError]) -> Iterator[None]:
    """Turn what the client and its libraries raise into a sentence; nothing of an answer is quoted."""
    from requests import RequestException
    from retrying import RetryError

    from stunet.imaging.formats.dicom.headers import DAMAGE

    failures: tuple[type[BaseException], ...] = (RequestException, RetryError, *DAMAGE)
    try:
        yield
    except UserError:
        raise
    except failures as error:
        raise kind(f"{address}: cannot {doing}: {_reason(error, address)}") from error


def _reason(error: BaseException, address: Address) -> str:
    """Why, and what to do."""
    from requests import ConnectionError as NoConnection
    from requests import JSONDecodeError, RequestException, Timeout
    from requests.exceptions import SSLError

    status = _status_of(error)
    if status is not None:
        return _by_status(status)
    no_host = f"{address.host} cannot be reached. Is the host right, and does the server run?"
    broke = "the connection broke. Try again."
    reasons = {
        SSLError: (
            "the server has no certificate that this machine trusts. Set REQUESTS_CA_BUNDLE to the file of its "
            "authority, or write dicomweb+http:// if the server speaks http."
        ),
        Timeout: no_host,
        NoConnection: broke if any(word in str(error) for word in BROKEN) else no_host,
        JSONDecodeError: NOT_DICOMWEB,
        RequestException: broke,
    }
    return next((reason for kind, reason in reasons.items() if isinstance(error, kind)), NOT_DICOMWEB)


def _status_of(error: BaseException) -> int | None:
    """The status of an answer that is a refusal."""
    response = getattr(error, "response", None)  # of requests; retrying keeps the last answer
    if response is None:
        response = getattr(getattr(error, "last_attempt", None), "value", None)
    return getattr(response, "status_code", None)


def _by_status(status: int) -> str:
    """What an answer says that is a refusal, and what to do."""
    name = f" ({HTTPStatus(status).phrase})" if status in set(HTTPStatus) else ""
    said = f"the server answers {status}{name}"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return (
            f"{said}. Set STUNET_DICOMWEB_TOKEN, or STUNET_DICOMWEB_USER and STUNET_DICOMWEB_PASSWORD, to those of a "
            "user who may do this."
        )
    if status == HTTPStatus.NOT_FOUND:
        return f"{said}. Check the UIDs, and the path between host and /studies (Orthanc: /dicom-web)."
    if status in (HTTPStatus.CONFLICT, HTTPStatus.UNSUPPORTED_MEDIA_TYPE):
        return f"{said}. Does it take this kind of object? Another --format may suit."
    return f"{said}. Ask who runs it, or try again later."
