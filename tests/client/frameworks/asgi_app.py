"""Real ASGI apps on a real server, for the tests of the ASGI middleware."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from app.store.store import Store
from app.store.topology import RedisTopology, connect
from backchannel_logout import AppKeys, AsyncSessionGuard, remember
from backchannel_logout.asgi import BackchannelLogoutMiddleware
from backchannel_logout.open_connections import RECHECK
from tests.support.patience import PATIENCE
from tests.support.revocations import revocation
from tests.support.servers.redis_server import RedisServer

ISS = "https://op.example"


class AsgiApp:
    """One app: its Redis keys, its server, its browsers."""

    def __init__(
        self, redis_server: RedisServer, url: str, keys: AppKeys, begun: asyncio.Event
    ) -> None:
        self.redis_server = redis_server
        self.url = url
        self.keys = keys
        self.begun = begun

    def end(self, sid: str) -> None:
        with self.redis_server.client() as client:
            client.set(self.keys.sid(ISS, sid), int(time.time()))

    async def log_out(self, sid: str) -> None:
        """As the receiver does: the marker, and its event."""
        store = Store(
            link := RedisTopology(connect(self.redis_server.url)), apps={self.keys.app: 3600},
            event_retention=3600, event_max_len=1000,
        )  # fmt: skip
        [answer] = await store.write([revocation(self.keys.app, sid=sid, since=int(time.time()))])
        assert isinstance(answer, int)
        await link.aclose()

    @asynccontextmanager
    async def browser(
        self, sid: str | None = None, **login: Any
    ) -> AsyncIterator[httpx.AsyncClient]:
        """A browser with its own cookies; with ``sid`` it is signed in."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=60) as client:
            if sid is not None or login:
                await client.post("/login", json={"sid": sid, **login})
            yield client

    @staticmethod
    def cookies(browser: httpx.AsyncClient) -> dict[str, str]:
        return {"Cookie": "; ".join(f"{c.name}={c.value}" for c in browser.cookies.jar)}


async def login(request: Request) -> Response:
    body = await request.json()
    request.session.clear()
    request.session["user"] = "alice"
    request.session.update(body.get("members", {}))
    if body.get("remember", True):
        iat = body.get("iat", int(time.time()) - 2)
        remember(
            request.session,
            {"iss": ISS, "sub": body.get("sub", "alice"), "sid": body["sid"], "iat": iat},
        )
    return PlainTextResponse("signed in")


async def me(request: Request) -> Response:
    return JSONResponse({"user": request.session.get("user")})


async def events(_: Request) -> Response:
    async def stream() -> AsyncIterator[bytes]:
        yield b"data: hello\n\n"
        await asyncio.Event().wait()

    return StreamingResponse(stream(), media_type="text/event-stream")


async def slow(request: Request) -> Response:
    """Longer than a check of the open connections: an ordinary response is never cut off."""
    request.app.state.begun.set()
    await asyncio.sleep(2 * RECHECK)
    return PlainTextResponse("done")


async def chat(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


async def stubborn_chat(socket: WebSocket) -> None:
    """Swallows its cancellation and keeps sending."""
    await socket.accept()
    sent = 0
    while not socket.app.state.over.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await socket.send_text("more")
            sent += 1
            await asyncio.sleep(0.02)
    socket.app.state.sent = sent


async def deaf_chat(socket: WebSocket) -> None:
    """Swallows its cancellation and sends nothing."""
    await socket.accept()
    while not socket.app.state.over.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await socket.app.state.over.wait()


class StubbornEvents:
    """An endpoint that swallows its cancellation and keeps sending."""

    def __init__(self, scope: Any, _receive: Any, send: Any) -> None:
        self.app, self.send = scope["app"], send

    def __await__(self) -> Any:
        return self.run().__await__()

    async def run(self) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        body = {"type": "http.response.body", "body": b"data: more\n\n", "more_body": True}
        while not self.app.state.over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.send(body)
                await asyncio.sleep(0.02)


NewAsgiApp = Callable[..., Any]


@asynccontextmanager
async def asgi_apps(shared_redis: RedisServer) -> AsyncIterator[NewAsgiApp]:
    """Makes apps, each on its own server, and stops them."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(server: RedisServer | None = None, **options: Any) -> AsgiApp:
            keys = AppKeys(f"app-{uuid.uuid4().hex[:8]}")
            server = server or shared_redis
            with server.client() as client:
                client.hset(keys.meta, mapping={"v": "1", "max_session_age": "3600"})
            guard_options = {k: options.pop(k) for k in ("on_outage",) if k in options}
            guard = AsyncSessionGuard(server.url, app=keys.app, timeout=PATIENCE, **guard_options)
            await stack.enter_async_context(guard)
            rules = {"guard": guard, "signed_in": "user", "login_url": "/signed-out"} | options
            app = Starlette(
                routes=[
                    Route("/login", login, methods=["POST"]),
                    Route("/me", me),
                    Route("/signed-out", lambda _: PlainTextResponse("please sign in")),
                    Route("/events", events),
                    Route("/slow", slow),
                    Route("/stubborn-events", StubbornEvents),
                    WebSocketRoute("/chat", chat),
                    WebSocketRoute("/stubborn", stubborn_chat),
                    WebSocketRoute("/deaf", deaf_chat),
                ],
                middleware=[
                    Middleware(SessionMiddleware, secret_key="of this test"),
                    Middleware(BackchannelLogoutMiddleware, **rules),
                ],
            )
            app.state.begun = asyncio.Event()
            app.state.over = asyncio.Event()
            url = await stack.enter_async_context(serving(app))
            stack.callback(app.state.over.set)  # before the server stops
            return AsgiApp(server, url, keys, app.state.begun)

        yield make


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """The app on a real server in this event loop."""
    config = uvicorn.Config(
        app, port=0, log_config=None, lifespan="off", ws="websockets-sansio",
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task
