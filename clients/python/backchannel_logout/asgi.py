"""Middleware for ASGI apps (Starlette, FastAPI), which ends sessions after a logout.

    middleware=[
        Middleware(SessionMiddleware, secret_key=...),
        Middleware(BackchannelLogoutMiddleware, guard=guard, signed_in="user", login_url="/login"),
    ]

It reads ``scope["session"]``, so the session middleware must come first, as above. With
``app.add_middleware``, which wraps each new one *around* the others, the order is reversed: add
this one first, the session middleware after it.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any

from backchannel_logout.checker import NO_ANSWER
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
from backchannel_logout.open_connections import SESSION_ENDED, TRY_AGAIN_LATER, OpenConnections

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class BackchannelLogoutMiddleware:
    """Checks the session of each request with ``guard``; see `gate.Gate` for the other options.

    A dead session is cleared and answered 401, or a page is redirected to ``login_url``; while the
    guard cannot tell, the answer is 503. WebSockets and server-sent events that are open when the
    logout arrives are closed within a second. The guard is closed at the end of the app's lifespan,
    so that a stopped app does not count as silent.
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
        self._open = OpenConnections(guard)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if "session" not in scope:
            raise NoSession(
                "no session in the scope: swap the middlewares. The session middleware must be "
                "listed before BackchannelLogoutMiddleware, or added after it with add_middleware"
            )
        session = scope["session"]
        answer = await self._gate.check_async(self._guard, session, partial(_request_info, scope))
        if answer is None:
            await self.app(scope, receive, send)
        elif isinstance(answer, GateResponse):
            if answer.ended:
                session.clear()
            await _send(answer, scope, receive, send)
        else:
            await self._while_alive(answer, scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Close the guard before the server learns that the app has shut down, and may exit."""

        async def closing_send(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                with suppress(*NO_ANSWER):
                    await self._guard.aclose()
            await send(message)

        await self.app(scope, receive, closing_send)

    async def _while_alive(
        self, session: Session, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Run the app; a connection that stays open ends with its session.

        The end is sent from here as soon as it is known: the app may take its time, or swallow its
        cancellation, and nothing that it sends afterwards is delivered.
        """
        with self._open.watch(session) as watched:

            async def send_end() -> None:
                await send(_end_of(scope, watched.code))

            async def watched_send(message: Message) -> None:
                if watched.has_ended:
                    return
                await send(message)
                if _is_event_stream(message):
                    watched.begin(send_end)

            async def watched_receive() -> Message:
                return _disconnect(scope, watched.code) if watched.has_ended else await receive()

            if scope["type"] == "websocket":
                watched.begin(send_end)
            try:
                async with watched.limit:
                    await self.app(scope, watched_receive, watched_send)
            except TimeoutError:
                if not watched.limit.expired():
                    raise
            finally:
                await watched.wait_for_end()


def _end_of(scope: Scope, code: int) -> Message:
    """The message that ends an open connection."""
    if scope["type"] == "websocket":
        return {"type": "websocket.close", "code": code}
    return {"type": "http.response.body", "body": b"", "more_body": False}


def _disconnect(scope: Scope, code: int) -> Message:
    """The message that an app receives after its connection was ended."""
    if scope["type"] == "websocket":
        return {"type": "websocket.disconnect", "code": code}
    return {"type": "http.disconnect"}


def _is_event_stream(message: Message) -> bool:
    return message["type"] == "http.response.start" and any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in message.get("headers", ())
    )


def _request_info(scope: Scope) -> RequestInfo:
    def header(name: bytes) -> str:
        values = [value for key, value in scope["headers"] if key.lower() == name]
        return b"; ".join(values).decode("latin-1")

    secure = scope.get("scheme") in ("https", "wss")
    return RequestInfo(accept=header(b"accept"), cookies=header(b"cookie"), secure=secure)


async def _send(answer: GateResponse, scope: Scope, receive: Receive, send: Send) -> None:
    """Send the answer in place of the app's; a WebSocket is refused with a close code."""
    if scope["type"] == "websocket":
        await receive()
        code = SESSION_ENDED if answer.ended else TRY_AGAIN_LATER
        await send({"type": "websocket.close", "code": code})
        return
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
