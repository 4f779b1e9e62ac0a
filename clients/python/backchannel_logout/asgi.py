"""Middleware for ASGI apps (Starlette, FastAPI): ends what a logout has ended.

    middleware=[
        Middleware(SessionMiddleware, secret_key=...),
        Middleware(BackchannelLogoutMiddleware, guard=guard, signed_in="user", login_url="/login"),
    ]

It looks at ``scope["session"]``, so the session middleware must come first, as above. With
``app.add_middleware``, which puts each new one *around* the others, it is the other way round:
this one is added first, the session middleware after it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any

from backchannel_logout.checker import NO_ANSWER, RevocationUnknown
from backchannel_logout.contract.session import Session
from backchannel_logout.gate import (
    Gate,
    GateResponse,
    NoSession,
    OnUnidentified,
    RequestInfo,
    SignedIn,
)
from backchannel_logout.guard import AsyncSessionGuard

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Open connections are looked at this often, in seconds; and at once when the guard's tail has
# brought a logout, so that they close within a second.
RECHECK = 0.75

# Then Redis is asked for all of them, whatever the tail says.
_ASK_EVERY = 2.0

SESSION_ENDED = 4401
"""The close code of a WebSocket whose session is dead; of the range for applications."""

TRY_AGAIN_LATER = 1013
"""The close code while nobody knows (registered with IANA)."""


class BackchannelLogoutMiddleware:
    """Asks ``guard`` about the session of each request; see `gate.Gate` for the rest.

    A dead session is cleared and answered 401, or sent to ``login_url`` where a page was asked
    for; where the guard can not tell, 503. WebSockets and server-sent events that are open when
    the logout comes are closed within a second. The guard is closed at the end of the app's
    lifespan, so that an app that was stopped does not count as one that has not read.
    """

    def __init__(
        self,
        app: App,
        guard: AsyncSessionGuard,
        *,
        signed_in: SignedIn,
        login_url: str | None = None,
        on_unidentified: OnUnidentified = "end",
    ) -> None:
        self.app = app
        self._guard = guard
        self._gate = Gate(signed_in=signed_in, login_url=login_url, on_unidentified=on_unidentified)
        self._watch = _Watch(guard)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._through_lifespan(scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if "session" not in scope:
            raise NoSession(
                "no session in the scope: swap the middlewares. The session middleware must be "
                "listed before BackchannelLogoutMiddleware, or added after it with add_middleware"
            )
        finding = self._gate.examine(scope["session"])
        if finding is True:
            await self.app(scope, receive, send)
            return
        try:
            dead = finding is False or await self._guard.is_revoked(finding)
        except RevocationUnknown as error:
            await _say(
                self._gate.unknown(_seen(scope), error), TRY_AGAIN_LATER, scope, receive, send
            )
            return
        if dead or finding is False:
            scope["session"].clear()
            await _say(self._gate.ended(_seen(scope)), SESSION_ENDED, scope, receive, send)
            return
        await self._while_alive(finding, scope, receive, send)

    async def _through_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Close the guard before the server is told that the app has shut down, and may end."""

        async def sending(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                with suppress(*NO_ANSWER):
                    await self._guard.aclose()
            await send(message)

        await self.app(scope, receive, sending)

    async def _while_alive(
        self, session: Session, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Run the app; a connection that stays open ends when the session does.

        The end is sent from here as soon as it is known: the app may take its time, or swallow its
        cancellation, and what it sends after that reaches nobody.
        """
        with self._watch.over(session) as watched:

            async def end() -> None:
                await send(_end_of(scope, watched.code))

            async def sending(message: Message) -> None:
                if watched.has_ended:
                    return
                await send(message)
                if _is_event_stream(message):
                    watched.begin(end)

            async def receiving() -> Message:
                return _gone(scope, watched.code) if watched.has_ended else await receive()

            if scope["type"] == "websocket":
                watched.begin(end)
            try:
                async with watched.limit:
                    await self.app(scope, receiving, sending)
            except TimeoutError:
                if not watched.limit.expired():
                    raise
            finally:
                await watched.wait_for_end()


class _Watched:
    """One connection: its session, and the time limit that ends its app."""

    def __init__(self, session: Session, connections: set["_Watched"], wake: Callable[[], None]):
        self.session = session
        self.limit = asyncio.timeout(None)
        self.code = SESSION_ENDED
        self._connections = connections
        self._wake = wake
        self._send_end: Callable[[], Awaitable[None]] | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the end was sent, or is about to be: nothing may follow it."""
        return self._ending is not None

    def begin(self, send_end: Callable[[], Awaitable[None]]) -> None:
        self._send_end = send_end
        self._connections.add(self)
        self._wake()

    def end(self, code: int) -> None:
        self.code = code
        self._connections.discard(self)
        self.limit.reschedule(asyncio.get_running_loop().time())
        # Not awaited here: a client that reads nothing must not keep the others open.
        self._ending = asyncio.create_task(self._end())

    async def _end(self) -> None:
        if self._send_end is not None:
            with suppress(OSError, RuntimeError):  # it has closed just now
                await self._send_end()

    async def wait_for_end(self) -> None:
        """The server must not be told that the app is done before the end was sent."""
        if self._ending is not None:
            await self._ending


class _Watch:
    """All open connections, looked at together: at most one question to Redis for all of them."""

    def __init__(self, guard: AsyncSessionGuard) -> None:
        self._guard = guard
        self._connections: set[_Watched] = set()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def over(self, session: Session) -> Iterator[_Watched]:
        watched = _Watched(session, self._connections, self._wake)
        try:
            yield watched
        finally:
            self._connections.discard(watched)

    def _wake(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        """Runs for as long as there are open connections."""
        ask_at = 0.0
        news = self._guard.next_news
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RECHECK):
                    await news.wait()
            news = self._guard.next_news
            if not self._connections:
                return
            connections = list(self._connections)
            now = asyncio.get_running_loop().time()
            fresh = now >= ask_at
            if fresh:
                ask_at = now + _ASK_EVERY
            try:
                dead = await self._guard.which_revoked(
                    {one.session for one in connections}, fresh=fresh
                )
            except RevocationUnknown:
                # Who may not begin without an answer may not go on without one either.
                for one in connections:
                    one.end(TRY_AGAIN_LATER)
                continue
            for one in connections:
                if one.session in dead:
                    one.end(SESSION_ENDED)


def _end_of(scope: Scope, code: int) -> Message:
    """What ends a connection that is open."""
    if scope["type"] == "websocket":
        return {"type": "websocket.close", "code": code}
    return {"type": "http.response.body", "body": b"", "more_body": False}


def _gone(scope: Scope, code: int) -> Message:
    """What an app receives whose connection was ended."""
    if scope["type"] == "websocket":
        return {"type": "websocket.disconnect", "code": code}
    return {"type": "http.disconnect"}


def _is_event_stream(message: Message) -> bool:
    return message["type"] == "http.response.start" and any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in message.get("headers", ())
    )


def _seen(scope: Scope) -> RequestInfo:
    def header(wanted: bytes) -> str:
        values = [value for name, value in scope["headers"] if name.lower() == wanted]
        return b"; ".join(values).decode("latin-1")

    secure = scope.get("scheme") in ("https", "wss")
    return RequestInfo(accept=header(b"accept"), cookies=header(b"cookie"), secure=secure)


async def _say(answer: GateResponse, code: int, scope: Scope, receive: Receive, send: Send) -> None:
    """Send the answer in place of the app's; a WebSocket is refused with ``code``."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": code})
        return
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
