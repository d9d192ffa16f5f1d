"""Let uvicorn serve the application."""

import logging
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from stunet.errors import UserError
from stunet.serve.app import make_app
from stunet.serve.settings import ServerSettings

GOODBYE_SECONDS = 3
"""How long answers that are under way may take when the server ends."""

CONNECTIONS = 512
"""Open connections; further ones are answered with 503."""


def run_server(settings: ServerSettings, on_start: Callable[[int], None]) -> None:
    """Serve until the process is interrupted.

    Args:
        settings: of the server.
        on_start: called with the port, on which connections are possible from then on.

    Raises:
        UserError: the address cannot be used, or the folder for the data.
    """
    with _listening(settings) as listener:
        app = make_app(settings)
        on_start(listener.getsockname()[1])
        uvicorn.Server(_config(app, settings)).run(sockets=[listener])


def _listening(settings: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=CONNECTIONS)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"Cannot listen on {settings.host}, port {settings.port} ({reason}). Choose another --port or --host."
        ) from error


def _config(app: FastAPI, settings: ServerSettings) -> uvicorn.Config:
    """Settings of uvicorn: no log of requested addresses, no server header, no trust in a proxy's headers."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # the application logs what may be logged
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GOODBYE_SECONDS,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
    )
