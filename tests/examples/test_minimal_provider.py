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
from tests.support.redis_server import RedisServer

APP = "http://127.0.0.1:8002"
KEYS = AppKeys("shop")


@dataclass
class Scene:
    op: MinimalOp
    app: Any
    redis: Any
    shop: httpx.AsyncClient
    """A browser, at the app."""

    async def at_the_provider(self, address: str) -> str:
        """What the browser is sent back to from there."""
        async with httpx.AsyncClient(trust_env=False) as browser:
            answer = await browser.get(address)
        assert answer.status_code == 302, answer.text
        return str(answer.headers["location"])

    async def sign_in(self) -> httpx.Response:
        """Through the provider and back: what the app answers at its callback."""
        begun = await self.shop.get("/login")
        return await self.shop.get(await self.at_the_provider(begun.headers["location"]))

    async def sign_out(self) -> httpx.Response:
        """The page that the browser is at when it has been at the provider and is back."""
        answer = await self.shop.post("/logout")
        return await self.shop.get(await self.at_the_provider(answer.headers["location"]))


@pytest.fixture
async def scene(redis_server: RedisServer) -> AsyncIterator[Scene]:
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
            yield Scene(op, app, redis, shop)


async def test_the_user_is_called_by_sub_and_no_claims_are_shown(scene: Scene) -> None:
    assert (await scene.sign_in()).headers["location"] == "/"
    assert f"signed in as {USER}" in (await scene.shop.get("/")).text
    assert (await scene.shop.get("/me")).json() == {"name": USER}


@pytest.mark.parametrize("back", [None, {"state": "another"}, {}], ids=["state", "other", "none"])
async def test_a_sign_out_has_a_hint_and_comes_back_whichever_state_is_sent(
    scene: Scene, back: dict[str, str] | None
) -> None:
    await scene.sign_in()
    scene.op.back = back
    page = await scene.sign_out()
    assert page.status_code == 200
    assert "You are not signed in." in page.text
    (asked,) = scene.op.ended
    assert asked.keys() == {"id_token_hint", "post_logout_redirect_uri", "client_id", "state"}
    assert (await scene.shop.get("/me")).status_code == 401


async def test_without_an_endpoint_for_it_a_sign_out_ends_the_apps_own_session(
    scene: Scene,
) -> None:
    scene.op.endpoints = {}
    await scene.sign_in()
    answer = await scene.shop.post("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{APP}/")
    assert (await scene.shop.get("/me")).status_code == 401


async def test_a_logout_of_the_user_ends_a_session_without_sid_and_a_later_login_lives(
    scene: Scene,
) -> None:
    await scene.sign_in()
    scene.redis.set(KEYS.sub(scene.op.origin, USER), int(time.time()) + 1)
    assert (await scene.shop.get("/me")).status_code == 401
    scene.op.claims = {"iat": int(time.time()) + 2}
    await scene.sign_in()
    assert (await scene.shop.get("/me")).status_code == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"}, {"nonce": None}, {"iss": "http://elsewhere.example"}, {"iss": None},
        {"aud": "another"}, {"aud": None}, {"exp": 1}, {"exp": None}, {"sub": None}, {"iat": None},
    ],
    ids=str,
)  # fmt: skip
async def test_an_id_token_that_is_not_as_it_should_be_signs_nobody_in(
    scene: Scene, claims: dict[str, Any]
) -> None:
    scene.op.claims = claims
    assert (await scene.sign_in()).status_code == 400
    assert (await scene.shop.get("/me")).status_code == 401


async def test_a_callback_with_another_state_signs_nobody_in(scene: Scene) -> None:
    begun = await scene.shop.get("/login")
    address = httpx.URL(await scene.at_the_provider(begun.headers["location"]))
    answer = await scene.shop.get(address.copy_set_param("state", "another"))
    assert answer.status_code == 400
    assert (await scene.shop.get("/me")).status_code == 401


async def test_a_token_that_is_too_large_for_a_cookie_is_not_kept_and_the_sign_in_works(
    scene: Scene,
) -> None:
    scene.op.claims = {"groups": ["x" * 100] * 40}
    await scene.sign_in()
    assert (await scene.shop.get("/me")).status_code == 200
    answer = await scene.shop.post("/logout")
    assert "id_token_hint" not in httpx.URL(answer.headers["location"]).params


@pytest.mark.parametrize("path", ["/", "/ended", "/callback"])
async def test_each_page_is_made_for_phones_and_readers(scene: Scene, path: str) -> None:
    text = (await scene.shop.get(path)).text
    for part in ('<html lang="en">', 'name="viewport"', "<main>", 'rel="icon"', "color-scheme"):
        assert part in text
