"""The console's own sessions: in memory, so that a sign-out really ends one.

The operators' listener is one process, and is reached by its own address; a
restart signs everybody out. A session of OpenID Connect holds what the guard asks about.
"""

import asyncio
import contextlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.background import background
from app.web.operator import Operator

COOKIE = "__Host-bcl_console"

ABSOLUTE_SECONDS = 8 * 3600.0
"""A shift: then sign in again, whatever was done meanwhile."""

IDLE_SECONDS = 3600.0

# Operators, not users: the oldest makes room.
MOST_SESSIONS = 500

# What has no end of its own.
_STREAMS = frozenset({"/api/feed", "/console/presence"})

# How soon an open stream learns that its session is over.
_LOOK_SECONDS = 0.25

Session = dict[str, Any]
"""``name`` of the session, ``who``, ``csrf``, ``began``, ``seen``; of OpenID Connect also ``oidc``,
``who_iss``, ``shown`` (the person's name), ``id_token`` and what `remember` stores. Empty: it has
ended."""

ENDED, EXPIRED, RESTARTED = "ended", "expired", "restarted"
"""Why a cookie names no session: its provider has ended it, its time is over, or it is one of
another process."""


class OperatorSessions:
    """``clock`` is a monotonic one, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._process = secrets.token_urlsafe(6)
        """In the name of each session: that of another process is known by it."""
        self._ended: OrderedDict[str, None] = OrderedDict()

    def begin(self, who: str, **members: Any) -> str:
        """A new session; returns its secret name, for the cookie."""
        name, now = f"{self._process}.{secrets.token_urlsafe(32)}", self._clock()
        self._sessions[name] = {
            "name": name, "who": who, "csrf": secrets.token_urlsafe(32), "began": now, "seen": now,
        } | members  # fmt: skip
        if len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)[1].clear()
        return name

    def find(self, name: str | None) -> Session:
        """The session; empty where there is none, or it is over. Keeps it from being idle."""
        session = self._sessions.get(name or "", {})
        if name is not None and name in self._sessions and not session:
            self._note_ended(name)
        if session and not self.is_alive(session):
            session.clear()
        if session:
            session["seen"] = self._clock()
        elif name is not None:
            self._sessions.pop(name, None)
        return session

    def end(self, session: Session) -> None:
        """Sign out. The session may have ended meanwhile: then it is empty."""
        self._sessions.pop(session.get("name", ""), None)
        session.clear()

    def why_over(self, name: str | None) -> str | None:
        """Why this cookie names no session; None where it does, or there is none."""
        if name is None or self._sessions.get(name):
            return None
        if not name.startswith(f"{self._process}."):
            return RESTARTED
        return ENDED if name in self._ended else EXPIRED

    def _note_ended(self, name: str) -> None:
        """The guard has emptied it: a logout token of its provider has come."""
        self._ended[name] = None
        if len(self._ended) > MOST_SESSIONS:
            self._ended.popitem(last=False)

    def is_alive(self, session: Session) -> bool:
        """Whether somebody is still signed in with it."""
        now = self._clock()
        return bool(session) and (
            now < session["began"] + ABSOLUTE_SECONDS and now < session["seen"] + IDLE_SECONDS
        )


class WithSession:
    """Puts the session of the cookie into ``scope["session"]``."""

    def __init__(self, app: ASGIApp, signed_in: OperatorSessions) -> None:
        self._app = app
        self._signed_in = signed_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = cookie(Headers(scope=scope), COOKIE)
        await self._app({**scope, "session": self._signed_in.find(name)}, receive, send)


class WithOperator:
    """Says in ``scope["signed_in"]`` who has signed in.

    For `/api` only to look: what is done there wants the token, and a page wants a form of ours.
    """

    def __init__(self, app: ASGIApp, signed_in: OperatorSessions) -> None:
        self._app = app
        self._signed_in = signed_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = scope["session"]
        looks = scope["method"] == "GET" or not scope["path"].startswith("/api/")
        if session and looks and "authorization" not in Headers(scope=scope):
            peer = scope["client"][0] if scope.get("client") else "-"
            operator = Operator(session["who"], peer, session.get("who_iss"))
            scope = {**scope, "signed_in": operator}
            # Whatever it says that it accepts: who asks is not always a browser.
            if scope["path"] in _STREAMS:
                await self._while_alive(session, scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _while_alive(
        self, session: Session, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """A stream ends with its session."""

        async def keep_looking(limit: asyncio.Timeout) -> None:
            while self._signed_in.is_alive(session):
                await asyncio.sleep(_LOOK_SECONDS)
            limit.reschedule(asyncio.get_running_loop().time())

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as limit, background([lambda: keep_looking(limit)]):
                await self._app(scope, receive, send)
            return
        with contextlib.suppress(Exception):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def cookie(headers: Headers, name: str) -> str | None:
    """The value of the cookie; None where there is none, or the header is no list of cookies."""
    try:
        found = SimpleCookie("; ".join(headers.getlist("cookie"))).get(name)
    except CookieError:
        return None
    return None if found is None else found.value


def set_cookie(value: str, *, name: str = COOKIE, same_site: str = "Strict", life: int = -1) -> str:
    """The header's value. Always ``Secure``: browsers count http on loopback as that, too.

    ``life`` in seconds; below 0: until the browser closes.
    """
    age = f"; Max-Age={life}" if life >= 0 else ""
    return f"{name}={value}; Path=/; Secure; HttpOnly; SameSite={same_site}{age}"
