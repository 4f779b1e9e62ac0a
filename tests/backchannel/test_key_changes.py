"""A provider that changes its keys again and again, as in the OpenID Foundation's suite, where each
module has its own keys. A real receiver, over HTTP."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.tokens.fetch_budget import BUDGET_BURST, BUDGET_INTERVAL
from backchannel_logout import AppKeys
from tests.support.providers.provider import ABSENT, EVENT, Provider, encode_parts, private_key
from tests.support.receiver import Receiver, config
from tests.support.servers.redis_server import RedisServer

KEYS = AppKeys("shop")

Build = Callable[[Provider, str], str]
"""Builds a logout token for this session."""


def unsigned(provider: Provider, sid: str) -> str:
    signed = encode_parts({"alg": "none"}, provider.claims(sid=sid), lambda _: b"x")
    return signed.rpartition(".")[0] + "."


def other_algorithm(provider: Provider, sid: str) -> str:
    alg = "RS256" if provider.alg == "ES256" else "ES256"
    return provider.token(sid=sid, alg=alg, key=private_key(alg))


MODULES: tuple[tuple[Build, int], ...] = (
    (lambda p, sid: p.token(sid=sid), 200),
    (unsigned, 400),
    (lambda p, sid: p.token(sid=sid, events=ABSENT), 400),
    (lambda p, sid: p.token(sid=sid, nonce="n"), 400),
    (other_algorithm, 400),
    (lambda p, sid: p.token(sid=sid, aud="invalid"), 400),
    (lambda p, sid: p.token(sid=sid, events={EVENT + "/": {}}), 400),
    (lambda p, sid: p.token(sid=sid, iss=p.issuer + "invalid"), 400),
)
"""What the eight modules of the suite's plan send, and the status they expect."""

PLANS = 6
"""Basic, hybrid and implicit, with two response types each: 48 modules."""


@pytest.fixture
def running(tmp_path: Path, shared_redis: RedisServer) -> Iterator[Callable[[Provider], Receiver]]:
    """Starts a receiver for a provider."""
    started: list[Receiver] = []

    def start(provider: Provider) -> Receiver:
        issuer = f'issuer = "{provider.issuer}"\nalgorithms = ["{provider.alg}"]'
        started.append(Receiver(tmp_path, config(shared_redis.url, issuer)).start())
        return started[-1]

    yield start
    for receiver in started:
        receiver.stop()


@pytest.mark.parametrize(
    "alg",
    [
        pytest.param("RS256", marks=pytest.mark.slow),
        pytest.param("PS256", marks=pytest.mark.slow),
        "ES256",
        "EdDSA",
    ],
)
def test_every_module_may_have_its_own_keys(
    alg: str, running: Callable[[Provider], Receiver], shared_redis: RedisServer
) -> None:
    """48 modules in a row, without a pause."""
    with Provider(alg=alg) as provider, shared_redis.client() as client:
        receiver = running(provider)
        for n in range(PLANS * len(MODULES)):
            build, status = MODULES[n % len(MODULES)]
            # One key of 2048 bits for both: generating 48 takes seconds.
            name = "RS256" if alg == "PS256" else alg
            provider.keys = {f"module-{n}": private_key(name, which=100 + n)}
            token = build(provider, f"sid-{n}")
            answer = receiver.post(token)
            assert (n, answer.status_code, answer.text) == (n, status, answer.text)
            marker = KEYS.sid(provider.issuer, f"sid-{n}")
            assert bool(client.exists(marker)) == (status == 200)


def test_strangers_cause_only_a_few_fetches(
    running: Callable[[Provider], Receiver], provider: Provider
) -> None:
    """Even with genuine tokens in between, which are answered with 200."""
    receiver = running(provider)
    began = time.monotonic()
    for n in range(60):
        answer = receiver.post(provider.token(header={"kid": f"unknown-{n}"}))
        assert answer.status_code in {400, 503}
        assert receiver.post(provider.token(sid=f"sid-{n}")).status_code == 200
    # Usually none. If the machine stalls, an interval passes, which allows one fetch for a token
    # and one for parked ones.
    intervals = int((time.monotonic() - began) / BUDGET_INTERVAL)
    assert 0 <= provider.key_fetches - (1 + BUDGET_BURST) <= 2 * intervals


def test_a_new_key_under_the_same_kid_loses_no_logout(
    running: Callable[[Provider], Receiver], provider: Provider, shared_redis: RedisServer
) -> None:
    receiver = running(provider)
    with shared_redis.client() as client:
        for n in range(6):
            provider.keys = {"k1": private_key("RS256", n)}
            assert receiver.post(provider.token(sid=f"same-kid-{n}")).status_code == 200
            assert client.exists(KEYS.sid(provider.issuer, f"same-kid-{n}"))


def test_forgeries_that_name_a_known_key_are_refused_within_the_budget(
    running: Callable[[Provider], Receiver], provider: Provider
) -> None:
    """Each with 400, and genuine tokens in between are answered with 200."""
    receiver = running(provider)
    began = time.monotonic()
    for n in range(60):
        forged = provider.token(sid=f"forged-{n}", key=private_key("RS256", 9))
        answer = receiver.post(forged)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
        assert receiver.post(provider.token(sid=f"genuine-{n}")).status_code == 200
    intervals = int((time.monotonic() - began) / BUDGET_INTERVAL)
    assert 0 <= provider.key_fetches - BUDGET_BURST <= intervals
