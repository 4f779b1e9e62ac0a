"""A flood fills the parking and the provider changes its key, yet its logouts are applied. A real
receiver, over HTTP."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backchannel_logout import AppKeys
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, wait_for
from tests.support.servers.redis_server import RedisServer

KEYS = AppKeys("shop")

FORGED, GENUINE = 116, 10


def forged(provider: Provider, name: str, size: int) -> str:
    """A token with an unknown key and an ``iat`` later than any fetch."""
    return provider.token(
        header={"kid": f"unknown-{name}"}, iat=int(time.time()) + 55, filling="x" * size
    )


@pytest.fixture
def crowded(tmp_path: Path, redis_server: RedisServer, provider: Provider) -> Iterator[Receiver]:
    """A receiver with the default places, which fetches keys every two seconds."""
    issuer = f'issuer = "{provider.issuer}"\njwks_refresh = "2s"'
    receiver = Receiver(tmp_path / "receiver", config(redis_server.url, issuer)).start()
    yield receiver
    receiver.stop()


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 5_500, 10_000], ids=["usual", "large", "huge"])
def test_a_flood_before_a_key_change_costs_no_logout(
    size: int, crowded: Receiver, redis_server: RedisServer, provider: Provider
) -> None:
    """Each genuine token is parked, and written when the next key set arrives."""
    provider.mode = "500"  # from here on every fetch fails
    for n in range(FORGED):
        assert crowded.post(forged(provider, str(n), size)).status_code == 503
    provider.rotate("k2")
    for n in range(GENUINE):
        assert crowded.post(provider.token(sid=f"sid-{n}")).status_code == 503
    provider.mode = "ok"
    with redis_server.client() as client:
        markers = [KEYS.sid(provider.issuer, f"sid-{n}") for n in range(GENUINE)]
        wait_for(lambda: client.exists(*markers) == GENUINE, "every logout is applied", crowded)
    wait_for(
        lambda: all(keys["parked"] == 0 for keys in crowded.readyz().json()["issuers"].values()),
        "the forgeries are refused", crowded,
    )  # fmt: skip
