"""The ASGI middleware with open connections: WebSockets and server-sent events."""

import asyncio
from typing import Any

import httpx
import pytest
import websockets

from backchannel_logout import open_connections
from backchannel_logout.open_connections import SESSION_ENDED, TRY_AGAIN_LATER
from tests.client.frameworks.asgi_app import AsgiApp, NewAsgiApp
from tests.support.servers.redis_server import RedisServer

# A logout closes open connections within a second; one without an event within three. The rest is
# for a busy machine.
CLOSES_WITHIN = 30


async def test_a_websocket_is_refused_when_its_session_is_dead(new_asgi_app: NewAsgiApp) -> None:
    app = await new_asgi_app()
    async with app.browser("one") as browser:
        app.end("one")
        with pytest.raises(websockets.InvalidStatus):
            await open_socket(app, browser)


async def open_socket(app: AsgiApp, browser: httpx.AsyncClient, path: str = "/chat") -> Any:
    url = app.url.replace("http", "ws") + path
    return await websockets.connect(url, additional_headers=app.cookies(browser), proxy=None)


@pytest.fixture
def told_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are only checked when the guard's tail has read an event: what closes within
    seconds was closed by an event."""
    monkeypatch.setattr(open_connections, "RECHECK", 3600.0)


@pytest.mark.usefixtures("told_only")
async def test_a_logout_closes_its_open_websocket_at_once_and_the_others_stay(
    new_asgi_app: NewAsgiApp,
) -> None:
    app = await new_asgi_app()
    async with app.browser("one") as one, app.browser("two") as two:
        dying, living = await open_socket(app, one), await open_socket(app, two)
        await dying.send("hello")
        assert await dying.recv() == "hello"
        await app.log_out("one")
        async with asyncio.timeout(CLOSES_WITHIN):
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await dying.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == SESSION_ENDED
        await living.send("still here")
        assert await living.recv() == "still here"
        await living.close()


@pytest.mark.usefixtures("told_only")
async def test_a_logout_ends_its_open_event_stream_at_once_and_the_others_stay(
    new_asgi_app: NewAsgiApp,
) -> None:
    app = await new_asgi_app()
    async with (
        app.browser("one") as one,
        app.browser("two") as two,
        one.stream("GET", "/events") as dying,
        two.stream("GET", "/events") as living,
    ):
        dying_chunks, living_chunks = dying.aiter_bytes(), living.aiter_bytes()
        assert await anext(dying_chunks) == await anext(living_chunks) == b"data: hello\n\n"
        await app.log_out("one")
        async with asyncio.timeout(CLOSES_WITHIN):
            assert [chunk async for chunk in dying_chunks] == []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await anext(living_chunks)


@pytest.mark.usefixtures("told_only")
@pytest.mark.parametrize("path", ["/stubborn", "/deaf"])
async def test_a_websocket_closes_though_its_app_swallows_its_cancellation(
    path: str, new_asgi_app: NewAsgiApp
) -> None:
    app = await new_asgi_app()
    async with app.browser("one") as one, app.browser("two") as two:
        dying, living = await open_socket(app, one, path), await open_socket(app, two)
        await app.log_out("one")
        async with asyncio.timeout(CLOSES_WITHIN):
            await dying.wait_closed()
        assert dying.close_code == SESSION_ENDED
        await living.send("still here")
        assert await living.recv() == "still here"
        await living.close()


@pytest.mark.usefixtures("told_only")
async def test_an_event_stream_ends_though_its_app_swallows_its_cancellation(
    new_asgi_app: NewAsgiApp,
) -> None:
    app = await new_asgi_app()
    async with app.browser("one") as one, one.stream("GET", "/stubborn-events") as dying:
        chunks = dying.aiter_bytes()
        assert await anext(chunks)
        await app.log_out("one")
        async with asyncio.timeout(CLOSES_WITHIN):
            async for _ in chunks:
                pass


@pytest.mark.slow
async def test_open_websockets_close_with_their_session_and_the_others_stay(
    new_asgi_app: NewAsgiApp,
) -> None:
    app = await new_asgi_app()
    async with app.browser("one") as one, app.browser("two") as two:
        dying, living = await open_socket(app, one), await open_socket(app, two)
        await dying.send("hello")
        assert await dying.recv() == "hello"
        app.end("one")
        async with asyncio.timeout(CLOSES_WITHIN):
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await dying.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == SESSION_ENDED
        await living.send("still here")
        assert await living.recv() == "still here"
        await living.close()


@pytest.mark.slow
async def test_open_websockets_close_while_the_state_is_unknown(
    new_asgi_app: NewAsgiApp, redis_server: RedisServer
) -> None:
    app = await new_asgi_app(redis_server)
    async with app.browser("one") as browser:
        socket = await open_socket(app, browser)
        await asyncio.to_thread(redis_server.stop)
        async with asyncio.timeout(CLOSES_WITHIN):
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == TRY_AGAIN_LATER


@pytest.mark.slow
async def test_open_event_streams_end_with_their_session_and_the_others_stay(
    new_asgi_app: NewAsgiApp,
) -> None:
    app = await new_asgi_app()
    async with (
        app.browser("one") as one,
        app.browser("two") as two,
        one.stream("GET", "/events") as dying,
        two.stream("GET", "/events") as living,
    ):
        dying_chunks, living_chunks = dying.aiter_bytes(), living.aiter_bytes()
        assert await anext(dying_chunks) == await anext(living_chunks) == b"data: hello\n\n"
        app.end("one")
        async with asyncio.timeout(CLOSES_WITHIN):
            assert [chunk async for chunk in dying_chunks] == []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await anext(living_chunks)


@pytest.mark.slow
async def test_an_ordinary_answer_is_never_cut_off(new_asgi_app: NewAsgiApp) -> None:
    """A request in progress completes, even if its session ends."""
    app = await new_asgi_app()
    async with app.browser("one") as browser:
        request = asyncio.create_task(browser.get("/slow", timeout=20))
        await app.begun.wait()
        app.end("one")
        assert (await request).text == "done"
