"""The web application: routes, checks, answers to errors, and the page."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from stunet.errors import UserError
from stunet.serve.child import places_of
from stunet.serve.people import COOKIE, new_cookie
from stunet.serve.refusal import RefusedError
from stunet.serve.routes import jobs, results, scans, server, session
from stunet.serve.routes.session import set_cookie
from stunet.serve.runner import INTERNAL
from stunet.serve.security import Guard, add_headers
from stunet.serve.service import Service
from stunet.serve.settings import ServerSettings
from stunet.serve.wording import without_paths

logger = logging.getLogger(__name__)

DESCRIPTION = """Segment CT, MR and PET scans. Not a medical device.

Requests that change something need the header `X-Stunet: 1`, or a token as `Authorization: Bearer TOKEN`. A server that
only its own machine reaches needs no token."""


def make_app(settings: ServerSettings) -> FastAPI:
    """The application of a server; its processes start and end with it."""
    from stunet import __version__

    service = Service(settings)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        """Start the service with the application, and close it at the end."""
        service.start()
        yield
        service.close()

    app = FastAPI(
        title="stunet",
        description=DESCRIPTION,
        version=__version__,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=running,
    )
    app.state.service = service
    for part in (server, session, scans, jobs, results):
        app.include_router(part.routes)
    app.add_api_route("/", _page, include_in_schema=False)
    app.mount("/", StaticFiles(directory=page_folder()))
    app.add_middleware(Guard, known_hosts=settings.known_hosts, most_bytes=settings.limits.body_bytes)
    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _internal_error)
    return app


def page_folder() -> Path:
    """Where the page lies."""
    return Path(str(files("stunet.serve") / "page"))


async def _page(request: Request) -> Response:
    """The page; on a server without tokens its first visit begins a session."""
    service: Service = request.app.state.service
    response = FileResponse(page_folder() / "index.html")
    if not service.people.need_tokens and COOKIE not in request.cookies:
        set_cookie(response, new_cookie(), service.settings)
    return response


async def _user_error(request: Request, error: Exception) -> Response:
    service: Service = request.app.state.service
    sentence = without_paths(str(error), service.settings.data.absolute())
    return _answer(error.status if isinstance(error, RefusedError) else 422, sentence)


async def _invalid(request: Request, error: Exception) -> Response:
    """Say what is wrong with a request, without repeating its content."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
    return _answer(422, f"{place or 'the request'}: {first['msg']}.")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": f"{error.detail}."}, error.status_code, error.headers)


async def _internal_error(request: Request, error: Exception) -> Response:
    """Log where an error happened, but not what it says. The answer does not pass `Guard`."""
    logger.error("Internal error:\n%s%s", places_of(error), type(error).__name__)
    answer = _answer(500, INTERNAL)
    add_headers(answer.headers, request.url.path)
    return answer


def _answer(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)
