"""The key cache against a real HTTP server that counts, fails, hangs, redirects and rotates."""

import asyncio
import time

import pytest

from app.errors import DependencyUnavailable, Outage, Reason, TokenRefused
from app.tokens import provider_keys, signed_jwt
from app.tokens.fetch_budget import BUDGET_BURST, BUDGET_INTERVAL
from tests.support.providers.provider import ABSENT, Provider, private_key
from tests.tokens.conftest import Clock, NewKeys, until, verify


async def test_the_first_token_fetches_the_keys_and_the_next_does_not(
    provider: Provider, new_keys: NewKeys
) -> None:
    keys = new_keys(provider)
    for _ in range(5):
        await verify(keys, provider.token())
    assert provider.requests == {"/.well-known/openid-configuration": 1, "/jwks": 1}


async def test_a_configured_jwks_uri_needs_no_discovery(
    provider: Provider, new_keys: NewKeys
) -> None:
    keys = new_keys(provider, f'jwks_uri = "{provider.origin}/jwks"')
    await verify(keys, provider.token())
    assert provider.requests == {"/jwks": 1}


async def test_an_issuer_with_a_path_is_discovered_below_it(new_keys: NewKeys) -> None:
    """OpenID Connect Discovery 1.0, section 4.1; a trailing slash is not doubled."""
    for path in ("/realms/main", "/realms/main/"):
        with Provider(path) as provider:
            await verify(new_keys(provider), provider.token())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"issuer": "https://other.example"}, "discovery_issuer"),
        ({"issuer": None}, "discovery_issuer"),
        ({"jwks_uri": None}, "discovery_jwks_uri"),
        ({"jwks_uri": "http://keys.example/jwks"}, "not_https"),
        ({"jwks_uri": "file:///etc/passwd"}, "not_https"),
        ({"jwks_uri": "https://[::1"}, "not_https"),
    ],
)
async def test_an_untrusted_discovery_document_brings_no_keys(
    answer: dict[str, str | None], error: str, provider: Provider, new_keys: NewKeys
) -> None:
    provider.discovery = answer
    keys = new_keys(provider)
    with pytest.raises(DependencyUnavailable):
        await verify(keys, provider.token())
    assert keys.state().last_error == error
    assert provider.key_fetches == 0


@pytest.mark.parametrize(
    ("mode", "error"),
    [
        ("500", "http_500"),
        ("redirect", "http_302"),
        ("rubbish", "not_a_key_set"),
        ("empty", "not_a_key_set"),
        ("large", "too_large"),
        ("gzip", "content_encoding"),
    ],
)
async def test_a_provider_that_misbehaves_is_an_outage_that_ends_by_itself(
    mode: str, error: str, provider: Provider, new_keys: NewKeys
) -> None:
    """503 while keys are unavailable, and 200 for the same token afterwards."""
    provider.mode = mode
    keys = new_keys(provider)
    token = provider.token()
    with pytest.raises(DependencyUnavailable) as outage:
        await verify(keys, token)
    assert outage.value.outage is Outage.KEYS_UNAVAILABLE
    assert keys.state().last_error == error
    assert "/elsewhere" not in provider.requests
    provider.mode = "ok"
    assert await verify(keys, token)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["hang", "drip"])
async def test_a_request_stops_waiting_for_a_provider_that_hangs(
    mode: str, provider: Provider, new_keys: NewKeys
) -> None:
    """The fetch continues for later requests."""
    provider.mode = mode
    keys = new_keys(provider)
    async with asyncio.timeout(60):
        with pytest.raises(DependencyUnavailable):
            await verify(keys, provider.token())


async def test_an_unknown_key_is_fetched(provider: Provider, new_keys: NewKeys) -> None:
    """Rotation: the new key is found with its first token, and the whole set is replaced."""
    keys = new_keys(provider)
    old = provider.token()
    await verify(keys, old)
    provider.rotate("k2")
    assert await verify(keys, provider.token())
    with pytest.raises(TokenRefused) as refusal:
        await verify(keys, old)
    assert refusal.value.reason is Reason.KEY_UNKNOWN


async def test_a_rotated_key_without_a_kid_is_fetched(
    provider: Provider, new_keys: NewKeys
) -> None:
    keys = new_keys(provider)
    await verify(keys, provider.token(header={"kid": ABSENT}))
    provider.rotate("k2")
    assert await verify(keys, provider.token(header={"kid": ABSENT}))


def new_key_under_the_same_kid(provider: Provider) -> None:
    provider.keys = dict.fromkeys(provider.keys, private_key("RS256", 2))


async def test_a_new_key_under_a_known_kid_is_fetched(
    provider: Provider, new_keys: NewKeys
) -> None:
    keys = new_keys(provider)
    old = provider.token()
    await verify(keys, old)
    new_key_under_the_same_kid(provider)
    assert await verify(keys, provider.token())
    with pytest.raises(TokenRefused) as refusal:
        await verify(keys, old)
    assert refusal.value.reason is Reason.SIGNATURE


async def test_a_key_of_another_kind_under_a_known_kid_is_fetched(
    provider: Provider, new_keys: NewKeys
) -> None:
    keys = new_keys(provider, 'algorithms = ["RS256", "ES256"]')
    await verify(keys, provider.token())
    provider.keys = dict.fromkeys(provider.keys, private_key("ES256"))
    assert await verify(keys, provider.token(alg="ES256"))


async def test_a_provider_may_change_keys_under_one_kid_at_any_rate(
    provider: Provider, new_keys: NewKeys
) -> None:
    keys = new_keys(provider, clock=Clock())
    for which in range(12):
        provider.keys = {"k1": private_key("RS256", which)}
        assert await verify(keys, provider.token())
    assert provider.key_fetches == 12


async def test_bad_signatures_have_a_budget_and_leave_a_fetch_for_unknown_kids(
    provider: Provider, new_keys: NewKeys
) -> None:
    """Each is refused, and none is parked; a rotation during the flood is still found at once."""
    clock = Clock()
    keys = new_keys(provider, clock=clock)
    await keys.refresh()
    for _ in range(20):
        with pytest.raises(TokenRefused) as refusal:
            await verify(keys, provider.token(key=private_key("RS256", 9)))
        assert refusal.value.reason is Reason.SIGNATURE
    assert provider.key_fetches == BUDGET_BURST
    provider.rotate("k2")
    assert await verify(keys, provider.token())
    assert provider.key_fetches == BUDGET_BURST + 1


async def test_a_new_key_under_a_known_kid_is_found_when_the_budget_has_a_fetch_again(
    provider: Provider, new_keys: NewKeys
) -> None:
    clock = Clock()
    keys = new_keys(provider, clock=clock)
    await keys.refresh()
    for _ in range(20):
        with pytest.raises(TokenRefused):
            await verify(keys, provider.token(key=private_key("RS256", 9)))
    new_key_under_the_same_kid(provider)
    token = provider.token()
    with pytest.raises(TokenRefused):
        await verify(keys, token)
    clock.ahead += BUDGET_INTERVAL + 1
    jwt = signed_jwt.parse(token.encode())
    assert await keys.verify(jwt, keys.issuer, arrived_at=clock())


async def test_a_bad_signature_is_refused_while_the_provider_is_down(
    provider: Provider, new_keys: NewKeys
) -> None:
    keys = new_keys(provider)
    await keys.refresh()
    provider.mode = "500"
    with pytest.raises(TokenRefused) as refusal:
        await verify(keys, provider.token(key=private_key("RS256", 9)))
    assert refusal.value.reason is Reason.SIGNATURE


async def test_unknown_kids_have_a_budget(provider: Provider, new_keys: NewKeys) -> None:
    """Three fetches at once, then one in thirty seconds, for any number of tokens."""
    clock = Clock()
    keys = new_keys(provider, clock=clock)
    await keys.refresh()
    for n in range(20):
        with pytest.raises((TokenRefused, DependencyUnavailable)):
            await verify(keys, provider.token(header={"kid": f"x{n}"}))
    assert provider.key_fetches == 1 + BUDGET_BURST
    clock.ahead += BUDGET_INTERVAL + 1
    for n in range(20):
        with pytest.raises((TokenRefused, DependencyUnavailable)):
            await verify(keys, provider.token(header={"kid": f"y{n}"}))
    assert provider.key_fetches == 1 + BUDGET_BURST + 1


async def test_failed_fetches_count_against_the_budget(
    provider: Provider, new_keys: NewKeys
) -> None:
    """A provider that is down is not hammered."""
    provider.mode = "500"
    keys = new_keys(provider, f'jwks_uri = "{provider.origin}/jwks"')
    for _ in range(20):
        with pytest.raises(DependencyUnavailable):
            await verify(keys, provider.token())
    assert provider.key_fetches == BUDGET_BURST


async def test_many_tokens_at_once_share_one_fetch(provider: Provider, new_keys: NewKeys) -> None:
    keys = new_keys(provider)
    await asyncio.gather(*(verify(keys, provider.token()) for _ in range(50)))
    assert provider.key_fetches == 1


async def test_a_request_that_gives_up_does_not_cancel_the_fetch(
    provider: Provider, new_keys: NewKeys
) -> None:
    keys = new_keys(provider)
    impatient = asyncio.create_task(verify(keys, provider.token()))
    patient = asyncio.create_task(verify(keys, provider.token()))
    await asyncio.sleep(0)
    impatient.cancel()
    assert await patient
    assert provider.key_fetches == 1


@pytest.mark.parametrize("iat", [-60, 0, 50])
async def test_an_unknown_key_is_final_only_after_a_fetch_newer_than_the_arrival(
    iat: int, provider: Provider, new_keys: NewKeys
) -> None:
    """Until then the token may be signed with a new key, whatever its ``iat``."""
    keys = new_keys(provider)
    await keys.refresh()
    token = provider.token(header={"kid": "new"}, iat=int(time.time()) + iat)
    provider.mode = "500"
    with pytest.raises(DependencyUnavailable):
        await verify(keys, token)
    provider.mode = "ok"
    with pytest.raises(TokenRefused) as refusal:
        await verify(keys, token)
    assert refusal.value.reason is Reason.KEY_UNKNOWN


async def test_only_a_bounded_number_of_requests_waits_for_unknown_keys(
    provider: Provider, new_keys: NewKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are answered at once; a token with a known key never waits."""
    monkeypatch.setattr(provider_keys, "MAX_WAITING", 5)
    keys = new_keys(provider)
    await keys.refresh()
    provider.mode = "hang"
    flood = [
        asyncio.create_task(verify(keys, provider.token(header={"kid": f"x{n}"})))
        for n in range(20)
    ]
    await until(lambda: sum(task.done() for task in flood) >= 15)
    assert await verify(keys, provider.token())
    provider.released.set()
    provider.mode = "ok"
    await asyncio.gather(*flood, return_exceptions=True)


@pytest.mark.slow
async def test_one_broken_issuer_does_not_delay_another(
    provider: Provider, new_keys: NewKeys
) -> None:
    """The neighbour's token is verified while ours waits for its provider."""
    with Provider() as broken:
        broken.mode = "hang"
        waiting = asyncio.create_task(verify(new_keys(broken), broken.token()))
        await asyncio.sleep(0)
        assert await verify(new_keys(provider), provider.token())
        assert not waiting.done()
        with pytest.raises(DependencyUnavailable):
            await waiting
