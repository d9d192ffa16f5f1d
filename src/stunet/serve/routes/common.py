"""Common parts of routes: the user, the service, and work in the helper's process."""

from collections.abc import Callable
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from stunet.serve.answers import ErrorAnswer
from stunet.serve.child import ChildEndedError, InternalError
from stunet.serve.people import COOKIE
from stunet.serve.refusal import RefusedError
from stunet.serve.runner import INTERNAL
from stunet.serve.service import Service

ENDED = "The server could not finish this: it ran out of memory, or a file is damaged."

_REFUSALS = {
    400: "The request is not valid.",
    401: "A token is needed.",
    403: "The request comes from another site, or does not show that it is meant for this server.",
    404: "Does not exist, or belongs to another user.",
    408: "The upload took too long.",
    409: "Not possible in this state.",
    413: "Too large.",
    415: "Wrong kind of content.",
    421: "The server is not known by that name.",
    422: "The request cannot be carried out; the sentence says why.",
    429: "Too many requests at once.",
    500: "The server met an internal error.",
    503: "The server is not ready.",
    507: "The server lacks memory or disk.",
}

_bearer = HTTPBearer(auto_error=False, description="A user's token.")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="Set by the page, and by POST /api/v1/session.")


def router(tag: str) -> APIRouter:
    """A router with descriptions of its refusals."""
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorAnswer, "description": text} for status, text in _REFUSALS.items()
    }
    return APIRouter(prefix="/api/v1", tags=[tag], responses=responses)


def service_of(request: Request) -> Service:
    """The service of this server."""
    service: Service = request.app.state.service
    return service


Server = Annotated[Service, Depends(service_of)]


def owner_of(
    server: Server,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    cookie: Annotated[str | None, Security(_cookie)],
) -> str:
    """The user of a request.

    Raises:
        RefusedError: there is none.
    """
    return server.people.owner_of(bearer.credentials if bearer else None, cookie)


Owner = Annotated[str, Depends(owner_of)]


async def in_thread(server: Service, function: Callable[..., Any], *arguments: Any) -> Any:
    """Do slow work, few requests at a time, so that short ones need not wait.

    Raises:
        RefusedError: memory ran out, or an internal error.
    """
    try:
        return await anyio.to_thread.run_sync(lambda: function(*arguments), limiter=server.slow_work)
    except ChildEndedError as error:
        raise RefusedError(507, ENDED) from error
    except InternalError as error:
        raise RefusedError(500, INTERNAL) from error


async def in_helper(server: Service, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in the helper's process; see `in_thread`."""
    return await in_thread(server, server.helper.call, function, *arguments)
