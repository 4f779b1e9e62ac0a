"""The key cache over time: refreshed early, retried, and the last good keys kept."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

from app.errors import DependencyUnavailable
from app.tokens.fetch_budget import BUDGET_INTERVAL
from app.tokens.first_fetches import report_first_fetches
from app.tokens.provider_keys import FIRST_FETCH_SECONDS, ProviderKeys
from tests.support.providers.provider import Provider
from tests.support.receiver import log_events
from tests.tokens.conftest import Clock, NewKeys, until, verify


async def test_the_last_good_keys_serve_while_the_provider_is_down(
    provider: Provider, new_keys: NewKeys
) -> None:
    """A failed refresh keeps the keys; after jwks_max_stale they are no longer used."""
    clock = Clock()
    keys = new_keys(provider, 'jwks_max_stale = "1h"', clock)
    await keys.refresh()
    provider.mode = "500"
    clock.ahead += 3500
    await keys.refresh()
    assert keys.state().last_error == "http_500"
    assert await verify(keys, provider.token())
    clock.ahead += 200
    with pytest.raises(DependencyUnavailable):
        await verify(keys, provider.token())
    provider.mode = "ok"
    clock.ahead += BUDGET_INTERVAL
    assert await verify(keys, provider.token())


@pytest.mark.slow
async def test_keys_are_refreshed_in_the_background(provider: Provider, new_keys: NewKeys) -> None:
    """The new key is cached before its first token, and a failure is retried sooner."""
    keys = new_keys(provider, 'jwks_refresh = "1s"')
    task = asyncio.create_task(keys.keep_fresh())
    try:
        async with asyncio.timeout(60):
            while provider.key_fetches < 2:
                await asyncio.sleep(0.02)
            provider.mode = "500"
            while keys.state().last_error is None:
                await asyncio.sleep(0.02)
            provider.mode = "ok"
            while keys.state().last_error is not None:
                await asyncio.sleep(0.02)
    finally:
        task.cancel()
        await asyncio.wait({task})


@contextlib.asynccontextmanager
async def kept_fresh(keys: ProviderKeys) -> AsyncIterator[None]:
    """With the background task, after its first fetch."""
    task = asyncio.create_task(keys.keep_fresh())
    try:
        await until(lambda: keys.state().attempted)
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.mark.slow
async def test_a_failed_fetch_for_a_token_is_retried_in_seconds(
    provider: Provider, new_keys: NewKeys
) -> None:
    """Not only after ``jwks_refresh``: the token may be waiting for it."""
    keys = new_keys(provider)
    async with kept_fresh(keys):
        provider.mode = "500"
        provider.rotate("k2")
        with pytest.raises(DependencyUnavailable):
            await verify(keys, provider.token())
        provider.mode = "ok"
        await until(lambda: keys.state().last_error is None)
    assert provider.key_fetches == 3


async def test_retries_become_rarer(provider: Provider, new_keys: NewKeys) -> None:
    """1, 2, 4, ... and then 30 seconds: a provider that is down is not hammered."""
    clock = Clock()
    provider.mode = "500"
    keys = new_keys(provider, f'jwks_uri = "{provider.origin}/jwks"', clock)
    pauses = []
    for _ in range(8):
        await keys.refresh()
        pauses.append(round(keys._due_at() - clock()))
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    provider.mode = "ok"
    await keys.refresh()
    assert round(keys._due_at() - clock()) == 600


@pytest.mark.slow
async def test_waiting_tokens_cause_one_fetch_in_thirty_seconds(
    provider: Provider, new_keys: NewKeys
) -> None:
    """However many wait, and however often they request it."""
    clock = Clock()
    keys = new_keys(provider, clock=clock)
    async with kept_fresh(keys):
        for ahead in (0, BUDGET_INTERVAL - 5):
            clock.ahead = ahead
            for _ in range(100):
                keys.want()
                await asyncio.sleep(0)
            assert provider.key_fetches == 1
        clock.ahead = BUDGET_INTERVAL + 1
        keys.want()
        await until(lambda: provider.key_fetches == 2)
        await until(lambda: round(keys._due_at() - clock()) == 600)


async def test_a_new_key_set_is_announced(provider: Provider, new_keys: NewKeys) -> None:
    """A failed fetch is not; the new keys are cached before the callback."""
    keys = new_keys(provider)
    seen: list[bool] = []
    keys.on_arrival(lambda: seen.append(keys.current() is not None))
    provider.mode = "500"
    await keys.refresh()
    assert seen == []
    provider.mode = "ok"
    await keys.refresh()
    assert seen == [True]


async def test_moved_keys_are_rediscovered(provider: Provider, new_keys: NewKeys) -> None:
    keys = new_keys(provider)
    await keys.refresh()
    with Provider() as other:
        other.keys = {"moved": provider.keys["k1"]}
        provider.discovery = {"jwks_uri": other.origin + "/jwks"}
        provider.mode = "500"
        await keys.refresh()
        assert await verify(keys, provider.token(header={"kid": "moved"}))


async def test_a_first_fetch_that_hangs_counts_as_attempted_after_half_a_second(
    provider: Provider, new_keys: NewKeys
) -> None:
    """A hanging provider holds no receiver back from being ready; its tokens wait for the fetch."""
    provider.mode = "hang"
    clock = Clock()
    keys = new_keys(provider, clock=clock)
    fetch = asyncio.create_task(keys.refresh())
    await until(lambda: bool(provider.requests))
    clock.ahead += FIRST_FETCH_SECONDS
    assert keys.state().attempted
    assert not keys.has_ended_a_fetch
    provider.mode = "ok"
    provider.released.set()
    await fetch
    assert keys.has_ended_a_fetch


async def test_the_first_fetches_of_all_issuers_are_logged_in_one_line(
    new_keys: NewKeys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with contextlib.ExitStack() as stack:
        providers = [stack.enter_context(Provider()) for _ in range(5)]
        providers[0].mode = "500"
        keys = [new_keys(provider) for provider in providers]
        for one in keys:
            one.logs_fetches = False
        await asyncio.gather(report_first_fetches(keys), *(one.refresh() for one in keys))
        (line,) = log_events(caplog, "keys", outcome="fetched")
        assert (line["issuers"], line["of_issuers"], line["keys"]) == (4, 5, 4)
        (failed,) = log_events(caplog, "keys", outcome="failed")
        assert failed["issuer"] == providers[0].issuer
        await keys[1].refresh()
        assert log_events(caplog, "keys", outcome="fetched", issuer=providers[1].issuer)
