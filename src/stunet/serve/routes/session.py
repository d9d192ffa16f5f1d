"""A browser signs in with a token, so that the page need not keep it."""

from typing import Annotated

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.status import HTTP_204_NO_CONTENT

from stunet.serve.answers import SessionAnswer
from stunet.serve.people import COOKIE, SESSION_SECONDS
from stunet.serve.routes.common import Server, router
from stunet.serve.settings import ServerSettings

routes = router("session")


class TokenBody(BaseModel):
    """What a user types."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(max_length=500)]


@routes.post("/session")
def begin(body: TokenBody, server: Server, response: Response) -> SessionAnswer:
    """Sign in; the answer sets a cookie that scripts cannot read."""
    cookie, user = server.people.begin_session(body.token)
    set_cookie(response, cookie, server.settings)
    return SessionAnswer(user)


@routes.delete("/session", status_code=HTTP_204_NO_CONTENT)
def end(request: Request, server: Server, response: Response) -> None:
    """Sign out."""
    server.people.end_session(request.cookies.get(COOKIE))
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


def set_cookie(response: Response, value: str, settings: ServerSettings) -> None:
    """Give a browser its session."""
    response.set_cookie(
        COOKIE,
        value,
        max_age=SESSION_SECONDS,
        path="/",
        secure=settings.certificate is not None,
        httponly=True,
        samesite="strict",
    )
