"""The ASGI middleware, request by request, against a real Redis."""

import asyncio
import logging
import time

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.routing import Route

from backchannel_logout import AsyncSessionGuard
from backchannel_logout.asgi import BackchannelLogoutMiddleware
from backchannel_logout.gate import LOOP_COOKIE, NoSession
from tests.client.frameworks.asgi_app import ISS, NewAsgiApp, me
from tests.support.servers.redis_server import RedisServer

PAGE = {"Accept": "text/html,*/*"}


async def test_a_dead_session_is_cleared_and_its_neighbour_lives(new_asgi_app: NewAsgiApp) -> None:
    app = await new_asgi_app()
    async with app.browser("one") as one, app.browser("two") as two:
        assert (await one.get("/me")).json() == {"user": "alice"}
        app.end("one")
        answer = await one.get("/me")
        assert (answer.status_code, answer.json()) == (401, {"error": "session_ended"})
        assert answer.headers["cache-control"] == "no-store"
        assert (await one.get("/me")).json() == {"user": None}, "the session was cleared"
        assert (await two.get("/me")).json() == {"user": "alice"}


async def test_a_page_is_sent_to_the_login(new_asgi_app: NewAsgiApp) -> None:
    app = await new_asgi_app()
    async with app.browser("one") as browser:
        app.end("one")
        answer = await browser.get("/me", headers=PAGE)
        assert (answer.status_code, answer.headers["location"]) == (303, "/signed-out")
        assert answer.headers["cache-control"] == "no-store"
        assert (await browser.get("/signed-out", headers=PAGE)).text == "please sign in"


async def test_dead_again_right_after_a_login_is_a_page_and_no_loop(
    new_asgi_app: NewAsgiApp,
) -> None:
    """As if the provider issued a session that it has already ended."""
    app = await new_asgi_app()
    async with app.browser("one") as browser:
        app.end("one")
        assert (await browser.get("/me", headers=PAGE)).status_code == 303
        assert LOOP_COOKIE in browser.cookies
        await browser.post("/login", json={"sid": "one"})
        answer = await browser.get("/me", headers=PAGE)
        assert answer.status_code == 401
        assert "right after" in answer.text


async def test_without_a_login_url_a_page_is_401(new_asgi_app: NewAsgiApp) -> None:
    app = await new_asgi_app(login_url=None)
    async with app.browser("one") as browser:
        app.end("one")
        assert (await browser.get("/me", headers=PAGE)).status_code == 401


async def test_a_request_without_a_sign_in_is_not_checked(
    new_asgi_app: NewAsgiApp, redis_server: RedisServer
) -> None:
    """Public pages and the login work without Redis."""
    app = await new_asgi_app(redis_server)
    redis_server.stop()
    async with app.browser() as browser:
        assert (await browser.get("/me")).json() == {"user": None}


async def test_without_redis_it_is_503_and_the_session_stays(
    new_asgi_app: NewAsgiApp, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    app = await new_asgi_app(redis_server)
    async with app.browser("one") as browser:
        await asyncio.to_thread(redis_server.stop)
        answer = await browser.get("/me")
        assert (answer.status_code, answer.json()) == (503, {"error": "temporarily_unavailable"})
        assert answer.headers["retry-after"]
        assert (await browser.get("/me", headers=PAGE)).status_code == 503
        assert "cannot tell" in caplog.text
        await asyncio.to_thread(redis_server.start)
        assert (await browser.get("/me")).json() == {"user": "alice"}


async def test_an_outage_can_be_allowed(
    new_asgi_app: NewAsgiApp, redis_server: RedisServer
) -> None:
    app = await new_asgi_app(redis_server, on_outage="allow")
    async with app.browser("one") as browser:
        assert (await browser.get("/me")).status_code == 200
        await asyncio.to_thread(redis_server.stop)
        assert (await browser.get("/me")).json() == {"user": "alice"}


@pytest.mark.parametrize(("rule", "status"), [("end", 401), ("allow", 200)])
async def test_a_session_from_before_the_installation(
    rule: str, status: int, new_asgi_app: NewAsgiApp, caplog: pytest.LogCaptureFixture
) -> None:
    """Signed in, but `remember` was never called: ended or let through, and logged once."""
    caplog.set_level(logging.WARNING, "backchannel_logout")
    app = await new_asgi_app(on_unidentified=rule)
    for _ in range(3):
        async with app.browser(None, remember=False) as browser:
            assert (await browser.get("/me")).status_code == status
    assert caplog.text.count("remember() was not called") == 1


async def test_a_session_of_an_earlier_release_ends(new_asgi_app: NewAsgiApp) -> None:
    """Its login is at the top of the session."""
    app = await new_asgi_app()
    old = {"iss": ISS, "sub": "alice", "sid": "one", "login_at": int(time.time()) - 2}
    async with app.browser(None, remember=False, members=old) as browser:
        assert (await browser.get("/me")).json() == {"user": "alice"}
        app.end("one")
        assert (await browser.get("/me")).json() == {"error": "session_ended"}
        assert (await browser.get("/me")).json() == {"user": None}


async def test_the_wrong_order_of_the_middlewares_is_loud(shared_redis: RedisServer) -> None:
    """At the first request, even without a session; no session stays signed in silently."""
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


async def test_login_refresh_logout_refresh_check(new_asgi_app: NewAsgiApp) -> None:
    """The app keeps the time of the login: a refresh, even after the logout, revives nothing."""
    app = await new_asgi_app()
    async with app.browser("one", iat=int(time.time()) - 60) as browser:
        assert (await browser.get("/me")).status_code == 200
        app.end("one")
        assert (await browser.get("/me")).status_code == 401


async def test_a_login_after_the_logout_lives_under_the_same_sid(new_asgi_app: NewAsgiApp) -> None:
    app = await new_asgi_app()
    async with app.browser("one") as browser:
        app.end("one")
        assert (await browser.get("/me")).status_code == 401
        await browser.post("/login", json={"sid": "one", "iat": int(time.time()) + 5})
        assert (await browser.get("/me")).json() == {"user": "alice"}
