"""The example app with a live session, a dead one, and without Redis."""

import base64
import json
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from itsdangerous import TimestampSigner

from backchannel_logout import AppKeys, remember
from examples.relying_app import create_app
from tests.support.servers.redis_server import RedisServer

ISSUER = "http://op.example"
SECRET = "only of this test"
KEYS = AppKeys("shop")


def session_cookie() -> str:
    """The cookie after Alice's login a minute ago, in Starlette's format."""
    session: dict[str, object] = {"name": "Alice"}
    claims = {"iss": ISSUER, "sub": "alice", "sid": "sid-1", "iat": int(time.time()) - 60}
    remember(session, claims)
    return TimestampSigner(SECRET).sign(base64.b64encode(json.dumps(session).encode())).decode()


@pytest.fixture
async def browser(redis_server: RedisServer) -> AsyncIterator[httpx.AsyncClient]:
    """Alice's signed-in browser, with an app that the receiver serves."""
    with redis_server.client() as redis:
        redis.hset(KEYS.meta, mapping={"v": "1", "max_session_age": "3600"})
    app = create_app(
        {
            "ISSUER": ISSUER,
            "CLIENT_ID": "shop-web",
            "CLIENT_SECRET": "unused",
            "REDIS_URL": redis_server.url,
            "APP": "shop",
            "SESSION_SECRET": SECRET,
            "PORT": "8002",
        }
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8002"
        ) as client,
    ):
        client.cookies.set("shop", session_cookie(), domain="127.0.0.1")
        yield client


def end_the_session(redis_server: RedisServer) -> None:
    with redis_server.client() as redis:
        redis.set(KEYS.sid(ISSUER, "sid-1"), int(time.time()))


async def test_a_live_session_is_served(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/me")
    assert answer.status_code == 200
    assert answer.json() == {"name": "Alice"}
    assert answer.headers["cache-control"] == "no-store"
    assert "signed in as Alice" in (await browser.get("/")).text


async def test_an_ended_session_is_401_and_cleared(
    browser: httpx.AsyncClient, redis_server: RedisServer
) -> None:
    end_the_session(redis_server)
    answer = await browser.get("/me")
    assert answer.status_code == 401
    assert answer.json() == {"error": "session_ended"}
    assert answer.headers["cache-control"] == "no-store"
    assert (await browser.get("/me")).json() == {"error": "not_signed_in"}


async def test_a_copied_cookie_of_an_ended_session_is_refused(
    browser: httpx.AsyncClient, redis_server: RedisServer
) -> None:
    end_the_session(redis_server)
    await browser.get("/me")
    browser.cookies.set("shop", session_cookie(), domain="127.0.0.1")
    assert (await browser.get("/me")).json() == {"error": "session_ended"}


async def test_a_person_reads_that_the_provider_ended_the_session(
    browser: httpx.AsyncClient, redis_server: RedisServer
) -> None:
    end_the_session(redis_server)
    page = await browser.get("/", headers={"Accept": "text/html"}, follow_redirects=True)
    assert "Your session was ended by your provider." in page.text
    assert "Sign in" in page.text


async def test_without_redis_it_is_503_and_the_session_stays(
    browser: httpx.AsyncClient, redis_server: RedisServer
) -> None:
    assert (await browser.get("/me")).status_code == 200
    redis_server.stop()
    answer = await browser.get("/me")
    assert answer.status_code == 503
    assert answer.headers["cache-control"] == "no-store"
    assert (await browser.get("/")).status_code == 503
    redis_server.start()
    assert (await browser.get("/me")).status_code == 200


async def test_a_refused_sign_in_offers_another(browser: httpx.AsyncClient) -> None:
    browser.cookies.clear()
    page = await browser.get("/callback", params={"error": "access_denied", "state": "<b>"})
    assert page.status_code == 400
    assert "Sign in" in page.text
    assert (await browser.get("/me")).json() == {"error": "not_signed_in"}
