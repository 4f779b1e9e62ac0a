"""Round trips that follow one another on one connection."""

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from app.publish.command import packed
from app.publish.exchange import exchanges
from tests.support.listening import until
from tests.support.redis_server import RedisServer


@pytest.fixture
async def server(shared_redis: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(shared_redis.url) as client:
        yield client


async def test_what_follows_takes_the_same_connection_and_leaves_it_to_others(
    server: Redis,
) -> None:
    async with exchanges() as following:
        first = await following.exchange(server, [packed("CLIENT", "ID")])
        assert await following.exchange(server, [packed("CLIENT", "ID")]) == first
    async with exchanges() as others:
        assert await others.exchange(server, [packed("CLIENT", "ID")]) == first


async def test_an_error_is_an_answer_and_the_next_ones_are_read(server: Redis) -> None:
    commands = [packed("PING"), packed("NO-SUCH"), packed("PING")]
    async with exchanges() as following:
        answers = await following.exchange(server, commands)
    assert [type(one).__name__ for one in answers] == ["bytes", "ResponseError", "bytes"]


async def test_a_connection_that_somebody_ends_in_between_is_replaced(server: Redis) -> None:
    """As a look at who is primary does after a failover."""
    async with exchanges() as following:
        first = await following.exchange(server, [packed("CLIENT", "ID")])
        await server.connection_pool.disconnect(inuse_connections=True)
        second = await following.exchange(server, [packed("CLIENT", "ID")])
        assert first != second
        await server.connection_pool.update_active_connections_for_reconnect()
        assert await following.exchange(server, [packed("CLIENT", "ID")]) not in (first, second)


def blocked(redis: RedisServer) -> bool:
    """Whether the server keeps somebody waiting for a list."""
    with redis.client() as look:
        return any(one["cmd"] == "blpop" for one in look.client_list())


async def test_who_gives_up_leaves_no_answer_to_the_next(
    server: Redis, shared_redis: RedisServer
) -> None:
    key = f"nothing-comes-{secrets.token_hex(4)}"
    async with exchanges() as following:
        slow = asyncio.create_task(following.exchange(server, [packed("BLPOP", key, 60)]))
        await until(lambda: blocked(shared_redis), "it waits for its answer")
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        assert await following.exchange(server, [packed("ECHO", "mine")]) == [b"mine"]
