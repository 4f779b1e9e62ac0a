"""The example app with a provider that sends only what OpenID Connect requires."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from backchannel_logout import AppKeys
from examples.relying_app import create_app
from tests.examples.minimal_op import CLIENT_ID, CLIENT_SECRET, USER, MinimalOp
from tests.support.servers.redis_server import RedisServer

APP = "http://127.0.0.1:8002"
KEYS = AppKeys("shop")


@dataclass
class SignInScenario:
    op: MinimalOp
    app: Any
    redis: Any
    shop: httpx.AsyncClient
    """A browser, at the app."""

    async def at_the_provider(self, address: str) -> str:
        """The URI to which the provider redirects."""
        async with httpx.AsyncClient(trust_env=False) as browser:
            answer = await browser.get(address)
        assert answer.status_code == 302, answer.text
        return str(answer.headers["location"])

    async def sign_in(self) -> httpx.Response:
        """Signs in; returns the app's answer at its callback."""
        begun = await self.shop.get("/login")
        return await self.shop.get(await self.at_the_provider(begun.headers["location"]))

    async def sign_out(self) -> httpx.Response:
        """The page after the provider's redirect."""
        answer = await self.shop.post("/logout")
        return await self.shop.get(await self.at_the_provider(answer.headers["location"]))


@pytest.fixture
async def scenario(redis_server: RedisServer) -> AsyncIterator[SignInScenario]:
    with redis_server.client() as redis, MinimalOp(APP) as op:
        redis.hset(KEYS.meta, mapping={"v": "1", "max_session_age": "3600"})
        app = create_app(
            {
                "ISSUER": op.origin,
                "CLIENT_ID": CLIENT_ID,
                "CLIENT_SECRET": CLIENT_SECRET,
                "REDIS_URL": redis_server.url,
                "APP": "shop",
                "SESSION_SECRET": "only of this test",
                "PORT": "8002",
            }
        )
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=APP) as shop,
        ):
            yield SignInScenario(op, app, redis, shop)


async def test_the_user_is_shown_by_sub_without_claims(scenario: SignInScenario) -> None:
    assert (await scenario.sign_in()).headers["location"] == "/"
    assert f"signed in as {USER}" in (await scenario.shop.get("/")).text
    assert (await scenario.shop.get("/me")).json() == {"name": USER}


@pytest.mark.parametrize("back", [None, {"state": "another"}, {}], ids=["state", "other", "none"])
async def test_a_sign_out_has_a_hint_and_comes_back_whichever_state_is_sent(
    scenario: SignInScenario, back: dict[str, str] | None
) -> None:
    await scenario.sign_in()
    scenario.op.back = back
    page = await scenario.sign_out()
    assert page.status_code == 200
    assert "You are not signed in." in page.text
    (asked,) = scenario.op.ended
    assert asked.keys() == {"id_token_hint", "post_logout_redirect_uri", "client_id", "state"}
    assert (await scenario.shop.get("/me")).status_code == 401


async def test_without_an_endpoint_for_it_a_sign_out_ends_the_apps_own_session(
    scenario: SignInScenario,
) -> None:
    scenario.op.endpoints = {}
    await scenario.sign_in()
    answer = await scenario.shop.post("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{APP}/")
    assert (await scenario.shop.get("/me")).status_code == 401


async def test_a_logout_of_the_user_ends_a_session_without_sid_but_not_a_later_login(
    scenario: SignInScenario,
) -> None:
    await scenario.sign_in()
    scenario.redis.set(KEYS.sub(scenario.op.origin, USER), int(time.time()) + 1)
    assert (await scenario.shop.get("/me")).status_code == 401
    scenario.op.claims = {"iat": int(time.time()) + 2}
    await scenario.sign_in()
    assert (await scenario.shop.get("/me")).status_code == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"}, {"nonce": None}, {"iss": "http://elsewhere.example"}, {"iss": None},
        {"aud": "another"}, {"aud": None}, {"exp": 1}, {"exp": None}, {"sub": None}, {"iat": None},
    ],
    ids=str,
)  # fmt: skip
async def test_an_invalid_id_token_signs_no_user_in(
    scenario: SignInScenario, claims: dict[str, Any]
) -> None:
    scenario.op.claims = claims
    assert (await scenario.sign_in()).status_code == 400
    assert (await scenario.shop.get("/me")).status_code == 401


async def test_a_callback_with_another_state_signs_no_user_in(scenario: SignInScenario) -> None:
    begun = await scenario.shop.get("/login")
    address = httpx.URL(await scenario.at_the_provider(begun.headers["location"]))
    answer = await scenario.shop.get(address.copy_set_param("state", "another"))
    assert answer.status_code == 400
    assert (await scenario.shop.get("/me")).status_code == 401


async def test_a_token_that_is_too_large_for_a_cookie_is_not_kept_and_the_sign_in_works(
    scenario: SignInScenario,
) -> None:
    scenario.op.claims = {"groups": ["x" * 100] * 40}
    await scenario.sign_in()
    assert (await scenario.shop.get("/me")).status_code == 200
    answer = await scenario.shop.post("/logout")
    assert "id_token_hint" not in httpx.URL(answer.headers["location"]).params


@pytest.mark.parametrize("path", ["/", "/ended", "/callback"])
async def test_each_page_suits_phones_and_screen_readers(
    scenario: SignInScenario, path: str
) -> None:
    text = (await scenario.shop.get(path)).text
    for part in ('<html lang="en">', 'name="viewport"', "<main>", 'rel="icon"', "color-scheme"):
        assert part in text
