"""How often the console fetches the discovery document, and how long it uses one."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.config.issuers import ClientSettings, IssuerSettings
from app.console.sign_in.discovery import Discovery
from app.tokens.fetch import FetchFailed, new_client
from tests.support.clock import Clock
from tests.support.providers.provider import Provider

WELL_KNOWN = "/.well-known/openid-configuration"
REFRESH, STALE = 600, 3600


@pytest.fixture
async def discovery(provider: Provider, clock: Clock) -> AsyncIterator[Discovery]:
    provider.discovery = {"token_endpoint": provider.origin + "/token", "other": ["a"]}
    issuer = IssuerSettings(
        issuer=provider.issuer, jwks_refresh=REFRESH, jwks_max_stale=STALE,
        clients=(ClientSettings(client_id="console", app="console"),),
    )  # fmt: skip
    async with new_client() as client:
        yield Discovery(issuer, client, clock)


async def test_it_is_fetched_once_for_everybody_and_again_when_it_is_old(
    discovery: Discovery, provider: Provider, clock: Clock
) -> None:
    addresses = await asyncio.gather(*(discovery.endpoint("token_endpoint") for _ in range(20)))
    assert set(addresses) == {provider.origin + "/token"}
    assert await discovery.lists("other", "a")
    assert not await discovery.lists("other", "b")
    assert not await discovery.lists("absent", "a")
    assert provider.requests[WELL_KNOWN] == 1
    clock.now += REFRESH + 1
    await discovery.endpoint("token_endpoint")
    assert provider.requests[WELL_KNOWN] == 2


async def test_a_failure_is_remembered_for_a_while_that_grows(
    discovery: Discovery, provider: Provider, clock: Clock
) -> None:
    provider.discovery["issuer"] = "https://other.example"
    for pause in (1, 2, 4, 8, 16, 30, 30):
        for _ in range(5):
            with pytest.raises(FetchFailed, match="discovery_issuer"):
                await discovery.endpoint("token_endpoint")
        clock.now += pause
    assert provider.requests[WELL_KNOWN] == 7


async def test_while_it_can_not_be_fetched_the_known_one_serves_until_it_is_stale(
    discovery: Discovery, provider: Provider, clock: Clock
) -> None:
    await discovery.endpoint("token_endpoint")
    provider.discovery["issuer"] = "https://other.example"
    clock.now += STALE
    assert await discovery.endpoint("token_endpoint")
    clock.now += 1
    with pytest.raises(FetchFailed):
        await discovery.endpoint("token_endpoint")


@pytest.mark.parametrize("value", ["http://evil.example/token", 7, "file:///etc/passwd"])
async def test_an_address_that_may_not_be_fetched_is_none(
    discovery: Discovery, provider: Provider, value: object
) -> None:
    provider.discovery["token_endpoint"] = value
    with pytest.raises(FetchFailed, match="token_endpoint"):
        await discovery.endpoint("token_endpoint")
