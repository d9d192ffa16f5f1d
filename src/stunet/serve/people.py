"""Whose a request is: by its token, by the cookie of a session, or, on a server without tokens, by its browser."""

import hmac
import secrets
import time
from collections.abc import Mapping
from hashlib import sha256

from stunet.serve.database import Database
from stunet.serve.refusal import RefusedError

COOKIE = "stunet_session"

SESSION_SECONDS = 7 * 24 * 3600
"""How long a session lasts."""

THIS_MACHINE = "this machine"
"""Owner of what programs without a cookie ask for, on a server without tokens."""


class People:
    """Knows users by tokens and sessions.

    Args:
        tokens: token to name; empty if none is needed.
        database: keeps sessions, as digests.
    """

    def __init__(self, tokens: Mapping[str, str], database: Database):
        self._names = {digest(token): name for token, name in tokens.items()}
        self._database = database

    @property
    def need_tokens(self) -> bool:
        """Whether each user has a token."""
        return bool(self._names)

    def owner_of(self, token: str | None, cookie: str | None) -> str:
        """The user of a request.

        Args:
            token: of the header Authorization.
            cookie: of the session.

        Raises:
            RefusedError: no user has this token or session.
        """
        if not self.need_tokens:
            return f"browser {digest(cookie)}" if cookie else THIS_MACHINE
        name = self._name_of(digest(token)) if token else self._name_of_session(cookie)
        if name is None:
            raise RefusedError(401, "A token is needed: send it as Authorization: Bearer TOKEN.")
        return name

    def begin_session(self, token: str) -> tuple[str, str]:
        """Let a browser in.

        Returns:
            The value of its cookie, and the name of the user.

        Raises:
            RefusedError: no user has this token, or none is needed.
        """
        if not self.need_tokens:
            raise RefusedError(409, "This server needs no token.")
        name = self._name_of(digest(token))
        if name is None:
            raise RefusedError(401, "No user has this token.")
        cookie = new_cookie()
        values = (digest(cookie), digest(token), time.time())
        self._database.change("INSERT INTO sessions VALUES (?, ?, ?)", values)
        return cookie, name

    def end_session(self, cookie: str | None) -> None:
        """Let a browser in no longer."""
        if cookie:
            self._database.change("DELETE FROM sessions WHERE id = ?", (digest(cookie),))

    def forget_old_sessions(self) -> None:
        """Remove sessions that have lasted long enough."""
        self._database.change("DELETE FROM sessions WHERE created < ?", (time.time() - SESSION_SECONDS,))

    def _name_of_session(self, cookie: str | None) -> str | None:
        """The user of a session; a token that was taken away ends its sessions."""
        if not cookie:
            return None
        rows = self._database.rows(
            "SELECT token FROM sessions WHERE id = ? AND created >= ?",
            (digest(cookie), time.time() - SESSION_SECONDS),
        )
        return self._name_of(rows[0]["token"]) if rows else None

    def _name_of(self, token_digest: str) -> str | None:
        """Compares with all, in a time that says nothing."""
        found = None
        for known, name in self._names.items():
            if hmac.compare_digest(known, token_digest):
                found = name
        return found


def digest(secret: str) -> str:
    """What is kept and compared instead of a secret."""
    return sha256(secret.encode()).hexdigest()


def new_cookie() -> str:
    """A value that cannot be guessed."""
    return secrets.token_urlsafe(32)
