"""Strangers fill the parking, the provider changes its key, and its logouts are applied all the
same. A real receiver, over HTTP."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backchannel_logout import AppKeys
from tests.support.provider import Provider
from tests.support.receiver import Receiver, config, wait_for
from tests.support.redis_server import RedisServer

KEYS = AppKeys("shop")

FORGED, HONEST = 116, 10


def forged(provider: Provider, name: str, size: int) -> str:
    """A token that no key set is newer than, by its own ``iat``, under a key that nobody has."""
    return provider.token(
        header={"kid": f"nobody-{name}"}, iat=int(time.time()) + 55, filling="x" * size
    )


@pytest.fixture
def crowded(tmp_path: Path, redis_server: RedisServer, provider: Provider) -> Iterator[Receiver]:
    """A receiver with places as they come, which asks for the keys every two seconds."""
    issuer = f'issuer = "{provider.issuer}"\njwks_refresh = "2s"'
    receiver = Receiver(tmp_path / "receiver", config(redis_server.url, issuer)).start()
    yield receiver
    receiver.stop()


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 5_500, 10_000], ids=["usual", "large", "huge"])
def test_a_flood_before_a_change_of_keys_takes_no_logout_with_it(
    size: int, crowded: Receiver, redis_server: RedisServer, provider: Provider
) -> None:
    """Each honest token finds a place, and the first key set that comes after it settles it."""
    provider.mode = "500"  # from here on no fetch brings the keys
    for n in range(FORGED):
        assert crowded.post(forged(provider, str(n), size)).status_code == 503
    provider.rotate("k2")
    for n in range(HONEST):
        assert crowded.post(provider.token(sid=f"sid-{n}")).status_code == 503
    provider.mode = "ok"
    with redis_server.client() as client:
        markers = [KEYS.sid(provider.issuer, f"sid-{n}") for n in range(HONEST)]
        wait_for(lambda: client.exists(*markers) == HONEST, "every logout is applied", crowded)
    wait_for(
        lambda: all(one["parked"] == 0 for one in crowded.readyz().json()["issuers"].values()),
        "the forgeries are refused", crowded,
    )  # fmt: skip
