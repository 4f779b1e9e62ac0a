"""The console's own sessions, in memory, so that a sign-out really ends one.

A restart ends all of them, and so does a change to another replica. A session of OpenID Connect
holds the members that the guard checks.
"""

import asyncio
import contextlib
import secrets
import time
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.background import background
from app.web.operator import Operator, peer_address

COOKIE = "__Host-bcl_console"

ABSOLUTE_SECONDS = 8 * 3600.0
"""One shift; then everybody signs in again."""

IDLE_SECONDS = 3600.0

# Operators, not users. Beyond it, the oldest session ends.
MAX_SESSIONS = 500

# Streams that never end by themselves.
_STREAMS = frozenset({"/api/feed", "/console/presence"})

# How late an open stream notices that its session is over.
_CHECK_SECONDS = 0.25

OperatorSession = dict[str, Any]
"""``name``, ``who``, ``csrf``, ``began``, ``seen``; of OpenID Connect also ``oidc``, ``who_iss``,
``display_name``, ``id_token`` and the members that `remember` stores. Empty once it has ended."""

ENDED, EXPIRED, RESTARTED = "ended", "expired", "restarted"
"""Why a cookie has no session: the provider ended it, it expired, or another process opened it."""


class OperatorSessions:
    def __init__(self) -> None:
        self._sessions: OrderedDict[str, OperatorSession] = OrderedDict()
        self._process = secrets.token_urlsafe(6)
        """Part of each session's name, to recognize those of another process."""
        self._ended: OrderedDict[str, None] = OrderedDict()

    def begin(self, who: str, **members: Any) -> str:
        """Open a session. Returns its secret name, for the cookie."""
        name, now = f"{self._process}.{secrets.token_urlsafe(32)}", time.monotonic()
        self._sessions[name] = {
            "name": name, "who": who, "csrf": secrets.token_urlsafe(32), "began": now, "seen": now,
        } | members  # fmt: skip
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)[1].clear()
        return name

    def find(self, name: str | None) -> OperatorSession:
        """The session, marked as used; empty if there is none or it is over."""
        session = self._sessions.get(name or "", {})
        if name is not None and name in self._sessions and not session:
            self._note_ended(name)
        if session and not self.is_alive(session):
            session.clear()
        if session:
            session["seen"] = time.monotonic()
        elif name is not None:
            self._sessions.pop(name, None)
        return session

    def end(self, session: OperatorSession) -> None:
        """Sign out. A session that has already ended is empty."""
        self._sessions.pop(session.get("name", ""), None)
        session.clear()

    def why_over(self, name: str | None) -> str | None:
        """Why this cookie has no session; None if it has one, or there is no cookie."""
        if name is None or self._sessions.get(name):
            return None
        if not name.startswith(f"{self._process}."):
            return RESTARTED
        return ENDED if name in self._ended else EXPIRED

    def _note_ended(self, name: str) -> None:
        """The guard has emptied it after a logout token of its provider."""
        self._ended[name] = None
        if len(self._ended) > MAX_SESSIONS:
            self._ended.popitem(last=False)

    def is_alive(self, session: OperatorSession) -> bool:
        now = time.monotonic()
        return bool(session) and (
            now < session["began"] + ABSOLUTE_SECONDS and now < session["seen"] + IDLE_SECONDS
        )


class WithSession:
    """Sets ``scope["session"]`` from the cookie."""

    def __init__(self, app: ASGIApp, sessions: OperatorSessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = cookie(Headers(scope=scope), COOKIE)
        await self._app({**scope, "session": self._sessions.find(name)}, receive, send)


class WithOperator:
    """Sets ``scope["signed_in"]`` to the operator of the session.

    Below `/api` only for GET: acts need the token there, and a form with a CSRF token on a page.
    """

    def __init__(self, app: ASGIApp, sessions: OperatorSessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = scope["session"]
        reads = scope["method"] == "GET" or not scope["path"].startswith("/api/")
        if session and reads and "authorization" not in Headers(scope=scope):
            operator = Operator(session["who"], peer_address(scope), session.get("who_iss"))
            scope = {**scope, "signed_in": operator}
            # Whatever the Accept header says: the client is not always a browser.
            if scope["path"] in _STREAMS:
                await self._while_alive(session, scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _while_alive(
        self, session: OperatorSession, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """A stream ends with its session."""

        async def end_with_session(limit: asyncio.Timeout) -> None:
            while self._sessions.is_alive(session):
                await asyncio.sleep(_CHECK_SECONDS)
            limit.reschedule(asyncio.get_running_loop().time())

        with contextlib.suppress(TimeoutError):
            async with (
                asyncio.timeout(None) as limit,
                background([lambda: end_with_session(limit)]),
            ):
                await self._app(scope, receive, send)
            return
        with contextlib.suppress(Exception):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def cookie(headers: Headers, name: str) -> str | None:
    """The value of the cookie; None if it is absent or the header is malformed."""
    try:
        morsel = SimpleCookie("; ".join(headers.getlist("cookie"))).get(name)
    except CookieError:
        return None
    return None if morsel is None else morsel.value


def set_cookie(value: str, *, name: str = COOKIE, same_site: str = "Strict", life: int = -1) -> str:
    """The value of a ``Set-Cookie`` header. Always ``Secure``: browsers accept that for http on
    loopback, too.

    ``life`` is in seconds; negative: until the browser closes.
    """
    age = f"; Max-Age={life}" if life >= 0 else ""
    return f"{name}={value}; Path=/; Secure; HttpOnly; SameSite={same_site}{age}"
