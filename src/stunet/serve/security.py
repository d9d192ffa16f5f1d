"""Checks of each request before it is handled, and security headers of each answer.

- Host must be a name of this server. A foreign page whose name was made to point here (DNS rebinding) is refused.
- Origin, if a browser sends one, must be this server itself. Pages of other sites get no answer.
- A request that changes something needs a token or the header `X-Stunet`, which no page of another site can send.
"""

import json
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stunet.serve.refusal import RefusedError

OWN_HEADER = "x-stunet"
"""Shows that a request is meant for this server. Browsers do not let other sites send it."""

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""All of the page comes from the server itself, and no script stands in a document."""

ANSWER_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}

UPLOADS = re.compile(r"/api/v1/(scans|jobs/[^/]+/reference)")
"""Addresses that take files. They have their own limits."""

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Checks requests and adds `ANSWER_HEADERS` to answers.

    Args:
        app: what answers the requests that pass.
        known_hosts: names of this server, in small letters, without a port.
        most_bytes: of a request that is not an upload; uploads have their own limits.
    """

    def __init__(self, app: ASGIApp, known_hosts: frozenset[str], most_bytes: int):
        self.app = app
        self.known_hosts = known_hosts
        self.most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            """Send a part of the answer; the first part gets the headers."""
            if message["type"] == "http.response.start":
                add_headers(MutableHeaders(scope=message), scope["path"])
            await send(message)

        headers = Headers(scope=scope)
        try:
            check(scope["method"], scope["path"], headers, scope["query_string"], self.known_hosts)
            if not UPLOADS.fullmatch(scope["path"]):
                receive = _bounded(receive, headers, self.most_bytes)
        except RefusedError as error:
            await _refuse(error, with_headers)
            return
        await self.app(scope, receive, with_headers)


def add_headers(headers: MutableHeaders, path: str) -> None:
    """Add to an answer what each answer tells the browser."""
    headers.update(ANSWER_HEADERS)
    if path.startswith("/api/"):
        headers.setdefault("Cache-Control", "no-store")


def check(method: str, path: str, headers: Headers, query: bytes, known_hosts: frozenset[str]) -> None:
    """Refuse requests that no page or client of this server sends.

    Raises:
        RefusedError: an unknown Host, another Origin or site, nothing that shows intent, or a token in the address.
    """
    if _name_of(headers.get("host", "")) not in known_hosts:
        raise RefusedError(
            421, "This server is not known by that name. Its administrator can add it with --allow-host."
        )
    if _is_of_another_site(path, headers):
        raise RefusedError(403, "Requests of other sites are refused.")
    if method not in SAFE_METHODS and OWN_HEADER not in headers and not is_bearer(headers):
        raise RefusedError(403, "The header X-Stunet: 1 is missing.")
    if any("token" in name.lower() for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)):
        raise RefusedError(400, "A token in an address is seen by others. Send it as Authorization: Bearer.")


def _is_of_another_site(path: str, headers: Headers) -> bool:
    """Whether the request comes from another site. Other sites may only link to the page."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        return True
    return headers.get("sec-fetch-site", "none") in ("cross-site", "same-site") and path.startswith("/api/")


def _bounded(receive: Receive, headers: Headers, most_bytes: int) -> Receive:
    """Limit the size of a request.

    Raises:
        RefusedError: the request is larger, by its header or while it arrives.
    """
    too_large = RefusedError(413, f"The request is larger than {most_bytes:,} bytes.")
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > most_bytes:
        raise too_large
    came = 0

    async def bounded() -> Message:
        """The next part of the request."""
        nonlocal came
        message = await receive()
        came += len(message.get("body", b""))
        if came > most_bytes:
            raise too_large
        return message

    return bounded


def is_bearer(headers: Headers) -> bool:
    """Whether a request has a token, which no other site can add."""
    return headers.get("authorization", "").lower().startswith("bearer ")


def _name_of(host: str) -> str:
    """The name in a Host header, without its port.

    >>> _name_of("localhost:8000"), _name_of("[::1]:8000")
    ('localhost', '::1')
    """
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


async def _refuse(error: RefusedError, send: Send) -> None:
    body = json.dumps({"error": str(error)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
