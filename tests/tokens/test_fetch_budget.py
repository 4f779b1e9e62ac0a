"""The fetch budget: a fetch that brought the key of a verified token is refunded, all others count.
Against a real HTTP server that counts."""

import logging
from typing import Any

import pytest

from app.errors import DependencyUnavailable, TokenRefused
from app.tokens import provider_keys
from app.tokens.fetch_budget import BUDGET_BURST, BUDGET_INTERVAL
from app.tokens.jwks import KeySet, read_key_set
from app.tokens.provider_keys import PARSE_PAUSE_FACTOR, ProviderKeys
from tests.support.providers.provider import ABSENT, Provider, private_key
from tests.tokens.conftest import Clock, NewKeys, verify


async def refused(keys: ProviderKeys, token: str) -> None:
    with pytest.raises((TokenRefused, DependencyUnavailable)):
        await verify(keys, token)


async def strangers(keys: ProviderKeys, provider: Provider, how_many: int, name: str) -> None:
    """Tokens with unpublished key ids."""
    for n in range(how_many):
        await refused(keys, provider.token(header={"kid": f"{name}{n}"}))


async def test_a_provider_may_change_its_keys_at_any_rate(
    provider: Provider, new_keys: NewKeys
) -> None:
    keys = new_keys(provider, clock=Clock())
    for n in range(12):
        provider.rotate(f"k{n}")
        assert await verify(keys, provider.token())
    assert provider.key_fetches == 12


async def test_a_provider_without_key_ids_may_change_its_keys_at_any_rate(
    provider: Provider, new_keys: NewKeys
) -> None:
    provider.jwk_members = {"kid": ABSENT}
    keys = new_keys(provider, clock=Clock())
    for n in range(12):
        provider.rotate(f"k{n}")
        assert await verify(keys, provider.token(header={"kid": ABSENT}))
    assert provider.key_fetches == 12


async def test_a_token_with_invalid_claims_still_proves_its_key(
    provider: Provider, new_keys: NewKeys
) -> None:
    """The fetch was for the signature."""
    keys = new_keys(provider, clock=Clock())
    for n in range(12):
        provider.rotate(f"k{n}")
        assert await verify(keys, provider.token(nonce="n"))


async def test_forgeries_between_genuine_tokens_gain_no_fetch(
    provider: Provider, new_keys: NewKeys
) -> None:
    """A verified token refunds the fetch that brought its key, and no other."""
    keys = new_keys(provider, clock=Clock())
    await keys.refresh()
    for n in range(12):
        await strangers(keys, provider, 1, f"x{n}-")
        assert await verify(keys, provider.token())
    assert provider.key_fetches == 1 + BUDGET_BURST


async def test_each_new_key_refunds_one_fetch(provider: Provider, new_keys: NewKeys) -> None:
    """However many tokens it verifies, and however many forgeries come in between."""
    clock = Clock()
    keys = new_keys(provider, clock=clock)
    await keys.refresh()
    for n in range(5):
        provider.rotate(f"k{n}")
        for _ in range(3):
            assert await verify(keys, provider.token())
    assert provider.key_fetches == 1 + 5
    await strangers(keys, provider, 20, "x")
    assert provider.key_fetches == 1 + 5 + BUDGET_BURST
    assert await verify(keys, provider.token())
    await strangers(keys, provider, 20, "y")
    assert provider.key_fetches == 1 + 5 + BUDGET_BURST
    clock.ahead += BUDGET_INTERVAL + 1
    await strangers(keys, provider, 20, "z")
    assert provider.key_fetches == 1 + 5 + BUDGET_BURST + 1


async def test_a_wrong_signature_refunds_nothing(provider: Provider, new_keys: NewKeys) -> None:
    """The new key's id is public."""
    keys = new_keys(provider, clock=Clock())
    await keys.refresh()
    for n in range(12):
        provider.rotate(f"k{n}")
        await refused(keys, provider.token(key=private_key("RS256", 9)))
    assert provider.key_fetches == 1 + BUDGET_BURST


async def test_a_fetch_is_refunded_even_after_another_one(
    provider: Provider, new_keys: NewKeys
) -> None:
    """A forgery's fetch brings the new key, another follows, then the key is used."""
    keys = new_keys(provider, clock=Clock())
    await keys.refresh()
    provider.rotate("k2")
    await strangers(keys, provider, 2, "x")
    assert await verify(keys, provider.token())
    await strangers(keys, provider, 20, "y")
    assert provider.key_fetches == 1 + BUDGET_BURST + 1


async def test_a_second_new_key_leaves_no_refund_pending(
    provider: Provider, new_keys: NewKeys
) -> None:
    """Two new keys of one fetch refund it once, and verification is as fast as before."""
    keys = new_keys(provider, clock=Clock())
    await keys.refresh()
    provider.keys = {"k2": private_key("RS256", 2), "k3": private_key("RS256", 3)}
    for kid, key in provider.keys.items():
        assert await verify(keys, provider.token(header={"kid": kid}, key=key))
    key_set = keys.current()
    assert key_set is not None
    assert key_set.unused == []
    await strangers(keys, provider, 20, "x")
    assert provider.key_fetches == 2 + BUDGET_BURST


@pytest.mark.parametrize("mode", ["ok", "rubbish"])
async def test_a_key_set_that_is_slow_to_parse_is_not_fetched_again_at_once(
    mode: str, provider: Provider, new_keys: NewKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsing blocks the event loop for the tokens of every issuer."""
    clock, reading = Clock(), 0.02
    began: list[float] = []
    ended: list[float] = []
    fetch = provider_keys.fetch_document

    async def fetched(*args: Any, **options: Any) -> bytes:
        began.append(clock())
        return await fetch(*args, **options)

    def slow(document: bytes) -> KeySet:
        clock.ahead += reading
        ended.append(clock())
        return read_key_set(document)

    monkeypatch.setattr(provider_keys, "fetch_document", fetched)
    monkeypatch.setattr(provider_keys, "read_key_set", slow)
    keys = new_keys(provider, f'jwks_uri = "{provider.origin}/jwks"', clock=clock)
    provider.mode = mode
    for n in range(3):
        provider.rotate(f"k{n}")
        if mode == "ok":
            assert await verify(keys, provider.token()), "it waits, and is not refused"
        else:
            await refused(keys, provider.token())
    assert len(began) == 3
    for before, after in zip(ended, began[1:], strict=False):
        assert after - before > PARSE_PAUSE_FACTOR * reading


async def test_refunded_fetches_do_not_fill_the_log(
    provider: Provider, new_keys: NewKeys, caplog: pytest.LogCaptureFixture
) -> None:
    """A provider with ever new keys causes any number of them."""
    caplog.set_level(logging.INFO, "app.tokens.provider_keys")
    clock = Clock()
    keys = new_keys(provider, clock=clock)

    async def change_keys(name: str) -> int:
        for n in range(12):
            provider.rotate(f"{name}{n}")
            assert await verify(keys, provider.token())
        return sum("fetched" in str(one.msg) for one in caplog.records)

    assert await change_keys("a") == BUDGET_BURST
    clock.ahead += BUDGET_INTERVAL + 1
    assert await change_keys("b") == BUDGET_BURST + 1
