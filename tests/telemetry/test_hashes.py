"""Names of users and sessions as they may be told."""

import asyncio
import base64
import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.publish.redis_link import connect
from app.telemetry.hashes import HASH_KEY, KeyedHash, shared_key
from backchannel_logout.connection import aclose
from tests.support.redis_server import RedisServer


@settings(deadline=None)  # a busy machine is no fault
@given(st.binary(min_size=1, max_size=100), st.text(alphabet=st.characters(codec="utf-8")))
def test_it_is_hmac_sha_256(key: bytes, value: str) -> None:
    whole = hmac.digest(key, value.encode(), hashlib.sha256)
    assert KeyedHash(key)(value) == base64.urlsafe_b64encode(whole).decode()[:16]


def test_the_same_name_has_the_same_hash_by_the_same_key_alone() -> None:
    one, same, other = KeyedHash(b"k"), KeyedHash(b"k"), KeyedHash(b"l")
    assert one("alice") == same("alice") == one("alice")
    assert one("alice") != other("alice")
    assert one("alice") != one("bob")


@pytest.mark.slow
async def test_replicas_that_start_together_share_one_key(redis_server: RedisServer) -> None:
    clients = [connect(redis_server.url) for _ in range(8)]
    keys = await asyncio.gather(*(shared_key(client) for client in clients))
    assert len(set(keys)) == 1
    assert len(keys[0]) == 64
    for client in clients:
        await aclose(client)


@pytest.mark.slow
async def test_an_emptied_redis_gets_the_key_back(redis_server: RedisServer) -> None:
    """Else nobody finds what was told before."""
    client = connect(redis_server.url)
    key = await shared_key(client)
    with redis_server.client() as admin:
        admin.flushall()
        assert await shared_key(client, key) == key
        assert admin.get(HASH_KEY) == key.decode()
    await aclose(client)
