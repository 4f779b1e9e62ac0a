"""Keyed hashes of users and sessions."""

import asyncio
import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.store.topology import connect
from app.telemetry.hashes import HASH_KEY, KeyedHash, shared_key
from backchannel_logout.redis.connection import aclose
from tests.support.servers.redis_server import RedisServer


@settings(deadline=None)  # the machine may be busy
@given(st.binary(min_size=1, max_size=100), st.text(alphabet=st.characters(codec="utf-8")))
def test_the_hash_is_keyed_blake2b(key: bytes, value: str) -> None:
    """As docs/deploy.md describes it for searching a user's lines."""
    if len(key) > 64:
        key = hashlib.blake2b(key).digest()
    digest = hashlib.blake2b(value.encode(), key=key, digest_size=12).digest()
    assert KeyedHash(key)(value) == base64.urlsafe_b64encode(digest).decode()


def test_openssl_computes_the_same_hash() -> None:
    """``openssl mac -macopt key:... -macopt size:12 BLAKE2BMAC``, as base64url."""
    assert KeyedHash(b"k" * 32)("alice") == "_BcMxKEIvzMspy34"


def test_keys_of_any_length_differ() -> None:
    keys = [b"k" * length for length in (1, 63, 64, 65, 128, 129, 1024)]
    assert len({KeyedHash(key)("alice") for key in keys}) == len(keys)


def test_a_name_has_the_same_hash_only_with_the_same_key() -> None:
    first, same, other = KeyedHash(b"k"), KeyedHash(b"k"), KeyedHash(b"l")
    assert first("alice") == same("alice") == first("alice")
    assert first("alice") != other("alice")
    assert first("alice") != first("bob")


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
    """Otherwise earlier hashes could not be found."""
    client = connect(redis_server.url)
    key = await shared_key(client)
    with redis_server.client() as admin:
        admin.flushall()
        assert await shared_key(client, key) == key
        assert admin.get(HASH_KEY) == key.decode()
    await aclose(client)
