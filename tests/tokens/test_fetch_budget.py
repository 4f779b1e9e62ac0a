"""What fetches cost: those that brought the key of a verified token nothing, all others a part of
the small budget. Against a real HTTP server that counts."""

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
    """Tokens under key ids that nobody publishes."""
    for n in range(how_many):
        await refused(keys, provider.token(header={"kid": f"{name}{n}"}))


async def test_a_provider_may_change_its_keys_as_often_as_it_likes(
    provider: Provider, new_keys: NewKeys
) -> None:
    keys = new_keys(provider, clock=Clock())
    for n in range(12):
        provider.rotate(f"k{n}")
        assert await verify(keys, provider.token())
    assert provider.key_fetches == 12


async def test_also_without_names_for_its_keys(provider: Provider, new_keys: NewKeys) -> None:
    provider.jwk_members = {"kid": ABSENT}
    keys = new_keys(provider, clock=Clock())
    for n in range(12):
        provider.rotate(f"k{n}")
        assert await verify(keys, provider.token(header={"kid": ABSENT}))
    assert provider.key_fetches == 12


async def test_a_token_with_a_fault_in_its_claims_proves_its_key_all_the_same(
    provider: Provider, new_keys: NewKeys
) -> None:
    """The signature is what the fetch was for."""
    keys = new_keys(provider, clock=Clock())
    for n in range(12):
        provider.rotate(f"k{n}")
        assert await verify(keys, provider.token(nonce="n"))


async def test_strangers_who_alternate_with_honest_tokens_gain_nothing(
    provider: Provider, new_keys: NewKeys
) -> None:
    """A token that is verified gives back the fetch that brought its key, and no other."""
    keys = new_keys(provider, clock=Clock())
    await keys.refresh()
    for n in range(12):
        await strangers(keys, provider, 1, f"x{n}-")
        assert await verify(keys, provider.token())
    assert provider.key_fetches == 1 + BUDGET_BURST


async def test_each_new_key_gives_back_one_fetch(provider: Provider, new_keys: NewKeys) -> None:
    """However many tokens it verifies, and however many strangers ask in between."""
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


async def test_a_signature_that_does_not_verify_gives_nothing_back(
    provider: Provider, new_keys: NewKeys
) -> None:
    """Anybody can read the new key's name at the key server."""
    keys = new_keys(provider, clock=Clock())
    await keys.refresh()
    for n in range(12):
        provider.rotate(f"k{n}")
        await refused(keys, provider.token(key=private_key("RS256", 9)))
    assert provider.key_fetches == 1 + BUDGET_BURST


async def test_the_fetch_is_given_back_also_after_another_one(
    provider: Provider, new_keys: NewKeys
) -> None:
    """A stranger's fetch brings the new key, another of his follows, then the key is used."""
    keys = new_keys(provider, clock=Clock())
    await keys.refresh()
    provider.rotate("k2")
    await strangers(keys, provider, 2, "x")
    assert await verify(keys, provider.token())
    await strangers(keys, provider, 20, "y")
    assert provider.key_fetches == 1 + BUDGET_BURST + 1


async def test_a_key_that_is_published_beside_the_one_in_use_keeps_nothing_owed(
    provider: Provider, new_keys: NewKeys
) -> None:
    """Two new keys of one fetch: it is given back once, and the way of a token is as short as
    before."""
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
async def test_a_key_set_that_is_slow_to_read_is_not_fetched_again_at_once(
    mode: str, provider: Provider, new_keys: NewKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop stands still while it is read, for the tokens of every other issuer, too."""
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


async def test_fetches_that_are_given_back_do_not_fill_the_log(
    provider: Provider, new_keys: NewKeys, caplog: pytest.LogCaptureFixture
) -> None:
    """A provider that signs with ever new keys has as many as it likes."""
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
