"""The ASGI middleware in real apps on a real server, against a real Redis."""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
import websockets
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from app.publish.redis_link import RedisLink, connect
from app.publish.store import Store
from backchannel_logout import AppKeys, AsyncSessionGuard, asgi, remember
from backchannel_logout.asgi import (
    RECHECK,
    SESSION_ENDED,
    TRY_AGAIN_LATER,
    BackchannelLogoutMiddleware,
)
from backchannel_logout.gate import LOOP_COOKIE, NoSession
from tests.support.redis_server import RedisServer
from tests.support.revocations import revocation

ISS = "https://op.example"
PAGE = {"Accept": "text/html,*/*"}

# A logout closes what is open within a second; one that no event tells, within three. The rest is
# for a busy machine.
CLOSES_WITHIN = 15


class Site:
    """An app of the test's own: its Redis keys, its server, its browsers."""

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
        """As the receiver does: the marker, and the event that tells of it."""
        store = Store(
            link := RedisLink(connect(self.redis_server.url)), apps={self.keys.app: 3600},
            event_retention=3600, event_max_len=1000, clock=time.time,
        )  # fmt: skip
        [answer] = await store.write([revocation(self.keys.app, sid=sid, since=int(time.time()))])
        assert isinstance(answer, int)
        await link.aclose()

    @asynccontextmanager
    async def browser(
        self, sid: str | None = None, **login: Any
    ) -> AsyncIterator[httpx.AsyncClient]:
        """A browser with its own cookies; with ``sid`` it is signed in."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
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
    """Longer than a look at the open connections: an ordinary answer is never cut off."""
    request.app.state.begun.set()
    await asyncio.sleep(2 * RECHECK)
    return PlainTextResponse("done")


async def chat(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


NewSite = Callable[..., Any]


@pytest.fixture
async def new_site(shared_redis: RedisServer) -> AsyncIterator[NewSite]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(server: RedisServer | None = None, **options: Any) -> Site:
            keys = AppKeys(f"site-{uuid.uuid4().hex[:8]}")
            server = server or shared_redis
            with server.client() as client:
                client.hset(keys.meta, mapping={"v": "1", "max_session_age": "3600"})
            guard_options = {k: options.pop(k) for k in ("on_outage",) if k in options}
            guard = AsyncSessionGuard(server.url, app=keys.app, **guard_options)
            await stack.enter_async_context(guard)
            rules = {"guard": guard, "signed_in": "user", "login_url": "/signed-out"} | options
            app = Starlette(
                routes=[
                    Route("/login", login, methods=["POST"]),
                    Route("/me", me),
                    Route("/signed-out", lambda _: PlainTextResponse("please sign in")),
                    Route("/events", events),
                    Route("/slow", slow),
                    WebSocketRoute("/chat", chat),
                ],
                middleware=[
                    Middleware(SessionMiddleware, secret_key="of this test"),
                    Middleware(BackchannelLogoutMiddleware, **rules),
                ],
            )
            app.state.begun = asyncio.Event()
            url = await stack.enter_async_context(serving(app))
            return Site(server, url, keys, app.state.begun)

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


async def test_a_dead_session_is_cleared_and_its_neighbour_lives(new_site: NewSite) -> None:
    site = await new_site()
    async with site.browser("one") as one, site.browser("two") as two:
        assert (await one.get("/me")).json() == {"user": "alice"}
        site.end("one")
        answer = await one.get("/me")
        assert (answer.status_code, answer.json()) == (401, {"error": "session_ended"})
        assert answer.headers["cache-control"] == "no-store"
        assert (await one.get("/me")).json() == {"user": None}, "the session was cleared"
        assert (await two.get("/me")).json() == {"user": "alice"}


async def test_a_page_is_sent_to_the_login(new_site: NewSite) -> None:
    site = await new_site()
    async with site.browser("one") as browser:
        site.end("one")
        answer = await browser.get("/me", headers=PAGE)
        assert (answer.status_code, answer.headers["location"]) == (303, "/signed-out")
        assert answer.headers["cache-control"] == "no-store"
        assert (await browser.get("/signed-out", headers=PAGE)).text == "please sign in"


async def test_dead_again_right_after_a_login_is_a_page_and_no_loop(new_site: NewSite) -> None:
    """As when the provider hands out a session that it has already ended."""
    site = await new_site()
    async with site.browser("one") as browser:
        site.end("one")
        assert (await browser.get("/me", headers=PAGE)).status_code == 303
        assert LOOP_COOKIE in browser.cookies
        await browser.post("/login", json={"sid": "one"})
        answer = await browser.get("/me", headers=PAGE)
        assert answer.status_code == 401
        assert "right after" in answer.text


async def test_without_a_login_url_a_page_is_401(new_site: NewSite) -> None:
    site = await new_site(login_url=None)
    async with site.browser("one") as browser:
        site.end("one")
        assert (await browser.get("/me", headers=PAGE)).status_code == 401


async def test_nobody_signed_in_is_not_asked_about(
    new_site: NewSite, redis_server: RedisServer
) -> None:
    """Pages for strangers, and the way to the login, work without Redis."""
    site = await new_site(redis_server)
    redis_server.stop()
    async with site.browser() as browser:
        assert (await browser.get("/me")).json() == {"user": None}


async def test_without_redis_it_is_503_and_the_session_stays(
    new_site: NewSite, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    site = await new_site(redis_server)
    async with site.browser("one") as browser:
        await asyncio.to_thread(redis_server.stop)
        answer = await browser.get("/me")
        assert (answer.status_code, answer.json()) == (503, {"error": "temporarily_unavailable"})
        assert answer.headers["retry-after"]
        assert (await browser.get("/me", headers=PAGE)).status_code == 503
        assert "can not tell" in caplog.text
        await asyncio.to_thread(redis_server.start)
        assert (await browser.get("/me")).json() == {"user": "alice"}


async def test_an_outage_can_be_allowed(new_site: NewSite, redis_server: RedisServer) -> None:
    site = await new_site(redis_server, on_outage="allow")
    async with site.browser("one") as browser:
        assert (await browser.get("/me")).status_code == 200
        await asyncio.to_thread(redis_server.stop)
        assert (await browser.get("/me")).json() == {"user": "alice"}


@pytest.mark.parametrize(("rule", "status"), [("end", 401), ("allow", 200)])
async def test_a_session_from_before_the_installation(
    rule: str, status: int, new_site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    """Signed in, but nobody remembered by whom: ended, or let through; told once."""
    caplog.set_level(logging.WARNING, "backchannel_logout")
    site = await new_site(on_unidentified=rule)
    for _ in range(3):
        async with site.browser(None, remember=False) as browser:
            assert (await browser.get("/me")).status_code == status
    assert caplog.text.count("remember() was not called") == 1


async def test_the_wrong_order_of_the_middlewares_is_loud(shared_redis: RedisServer) -> None:
    """At the first request, also of a stranger; never silently still signed in."""
    async with AsyncSessionGuard(shared_redis.url, app="shop") as guard:
        app = Starlette(
            routes=[Route("/", me)],
            middleware=[
                Middleware(BackchannelLogoutMiddleware, guard=guard, signed_in="user"),
                Middleware(SessionMiddleware, secret_key="of this test"),
            ],
        )
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            with pytest.raises(NoSession, match="swap the middlewares"):
                await client.get("/")


async def test_login_refresh_logout_refresh_check(new_site: NewSite) -> None:
    """The app keeps the login's own time: a refresh, also after the logout, revives nothing."""
    site = await new_site()
    async with site.browser("one", iat=int(time.time()) - 60) as browser:
        assert (await browser.get("/me")).status_code == 200
        site.end("one")
        assert (await browser.get("/me")).status_code == 401


async def test_a_login_after_the_logout_lives_under_the_same_sid(new_site: NewSite) -> None:
    site = await new_site()
    async with site.browser("one") as browser:
        site.end("one")
        assert (await browser.get("/me")).status_code == 401
        await browser.post("/login", json={"sid": "one", "iat": int(time.time()) + 5})
        assert (await browser.get("/me")).json() == {"user": "alice"}


async def test_a_websocket_is_refused_when_its_session_is_dead(new_site: NewSite) -> None:
    site = await new_site()
    async with site.browser("one") as browser:
        site.end("one")
        with pytest.raises(websockets.InvalidStatus):
            await open_socket(site, browser)


async def open_socket(site: Site, browser: httpx.AsyncClient) -> Any:
    url = site.url.replace("http", "ws") + "/chat"
    return await websockets.connect(url, additional_headers=site.cookies(browser), proxy=None)


@pytest.fixture
def told_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked at but when the guard's tail has brought something: what closes within
    seconds was told."""
    monkeypatch.setattr(asgi, "RECHECK", 3600.0)


@pytest.mark.usefixtures("told_only")
async def test_a_logout_closes_its_open_websocket_at_once_and_the_others_stay(
    new_site: NewSite,
) -> None:
    site = await new_site()
    async with site.browser("one") as one, site.browser("two") as two:
        dying, living = await open_socket(site, one), await open_socket(site, two)
        await dying.send("hello")
        assert await dying.recv() == "hello"
        await site.log_out("one")
        async with asyncio.timeout(5):
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await dying.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == SESSION_ENDED
        await living.send("still here")
        assert await living.recv() == "still here"
        await living.close()


@pytest.mark.usefixtures("told_only")
async def test_a_logout_ends_its_open_event_stream_at_once_and_the_others_stay(
    new_site: NewSite,
) -> None:
    site = await new_site()
    async with (
        site.browser("one") as one,
        site.browser("two") as two,
        one.stream("GET", "/events") as dying,
        two.stream("GET", "/events") as living,
    ):
        dying_chunks, living_chunks = dying.aiter_bytes(), living.aiter_bytes()
        assert await anext(dying_chunks) == await anext(living_chunks) == b"data: hello\n\n"
        await site.log_out("one")
        async with asyncio.timeout(5):
            assert [chunk async for chunk in dying_chunks] == []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await anext(living_chunks)


@pytest.mark.slow
async def test_open_websockets_close_with_their_session_and_the_others_stay(
    new_site: NewSite,
) -> None:
    site = await new_site()
    async with site.browser("one") as one, site.browser("two") as two:
        dying, living = await open_socket(site, one), await open_socket(site, two)
        await dying.send("hello")
        assert await dying.recv() == "hello"
        site.end("one")
        async with asyncio.timeout(CLOSES_WITHIN):
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await dying.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == SESSION_ENDED
        await living.send("still here")
        assert await living.recv() == "still here"
        await living.close()


@pytest.mark.slow
async def test_open_websockets_close_while_nobody_can_tell(
    new_site: NewSite, redis_server: RedisServer
) -> None:
    site = await new_site(redis_server)
    async with site.browser("one") as browser:
        socket = await open_socket(site, browser)
        await asyncio.to_thread(redis_server.stop)
        async with asyncio.timeout(CLOSES_WITHIN):
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == TRY_AGAIN_LATER


@pytest.mark.slow
async def test_open_event_streams_end_with_their_session_and_the_others_stay(
    new_site: NewSite,
) -> None:
    site = await new_site()
    async with (
        site.browser("one") as one,
        site.browser("two") as two,
        one.stream("GET", "/events") as dying,
        two.stream("GET", "/events") as living,
    ):
        dying_chunks, living_chunks = dying.aiter_bytes(), living.aiter_bytes()
        assert await anext(dying_chunks) == await anext(living_chunks) == b"data: hello\n\n"
        site.end("one")
        async with asyncio.timeout(CLOSES_WITHIN):
            assert [chunk async for chunk in dying_chunks] == []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await anext(living_chunks)


@pytest.mark.slow
async def test_an_ordinary_answer_is_never_cut_off(new_site: NewSite) -> None:
    """Work that has begun is finished, whatever happens to the session meanwhile."""
    site = await new_site()
    async with site.browser("one") as browser:
        request = asyncio.create_task(browser.get("/slow", timeout=20))
        await site.begun.wait()
        site.end("one")
        assert (await request).text == "done"
