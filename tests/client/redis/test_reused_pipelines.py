"""`ReusedPipelines`: round trips that follow each other on one connection."""

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from backchannel_logout.redis.pipeline import pack, reused_pipelines
from tests.support.apps.listening import until
from tests.support.servers.redis_server import RedisServer


@pytest.fixture
async def server(shared_redis: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(shared_redis.url) as client:
        yield client


async def test_following_round_trips_use_one_connection_and_return_it(
    server: Redis,
) -> None:
    async with reused_pipelines() as pipelines:
        first = await pipelines.exchange(server, [pack(("CLIENT", "ID"))], within=60)
        assert await pipelines.exchange(server, [pack(("CLIENT", "ID"))], within=60) == first
    async with reused_pipelines() as others:
        assert await others.exchange(server, [pack(("CLIENT", "ID"))], within=60) == first


async def test_an_error_is_an_answer_and_the_next_ones_are_read(server: Redis) -> None:
    commands = [pack(("PING",)), pack(("NO-SUCH",)), pack(("PING",))]
    async with reused_pipelines() as pipelines:
        answers = await pipelines.exchange(server, commands, within=60)
    assert [type(one).__name__ for one in answers] == ["bytes", "ResponseError", "bytes"]


async def test_a_connection_that_is_closed_in_between_is_replaced(server: Redis) -> None:
    """As a look-up of the primary does after a failover."""
    async with reused_pipelines() as pipelines:
        first = await pipelines.exchange(server, [pack(("CLIENT", "ID"))], within=60)
        await server.connection_pool.disconnect(inuse_connections=True)
        second = await pipelines.exchange(server, [pack(("CLIENT", "ID"))], within=60)
        assert first != second
        await server.connection_pool.update_active_connections_for_reconnect()
        assert await pipelines.exchange(server, [pack(("CLIENT", "ID"))], within=60) not in (
            first,
            second,
        )


async def test_a_connection_that_the_server_has_ended_is_replaced(
    server: Redis, shared_redis: RedisServer
) -> None:
    async with reused_pipelines() as pipelines:
        [number] = await pipelines.exchange(server, [pack(("CLIENT", "ID"))], within=60)
        with shared_redis.client() as other:
            other.client_kill_filter(_id=str(number))
        pipeline = pipelines._kept[server]
        await until(lambda: not pipeline.is_open, "its end has come")
        [another] = await pipelines.exchange(server, [pack(("CLIENT", "ID"))], within=60)
    assert another != number


def blocked(redis: RedisServer) -> bool:
    """Whether a client is blocked on a list."""
    with redis.client() as look:
        return any(one["cmd"] == "blpop" for one in look.client_list())


async def test_a_cancelled_exchange_leaves_no_reply_to_the_next(
    server: Redis, shared_redis: RedisServer
) -> None:
    key = f"nothing-comes-{secrets.token_hex(4)}"
    async with reused_pipelines() as pipelines:
        slow = asyncio.create_task(
            pipelines.exchange(server, [pack(("BLPOP", key, 60))], within=60)
        )
        await until(lambda: blocked(shared_redis), "it waits for its answer")
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        assert await pipelines.exchange(server, [pack(("ECHO", "mine"))], within=60) == [b"mine"]


async def test_an_exchange_that_times_out_leaves_no_reply(
    server: Redis, shared_redis: RedisServer
) -> None:
    key = f"nothing-comes-{secrets.token_hex(4)}"
    async with reused_pipelines() as pipelines:
        with pytest.raises(TimeoutError):
            await pipelines.exchange(server, [pack(("BLPOP", key, 60))], within=0.2)
        await until(lambda: not blocked(shared_redis), "the connection has ended")
        assert await pipelines.exchange(server, [pack(("ECHO", "mine"))], within=60) == [b"mine"]


async def test_a_connection_that_takes_too_long_is_given_up() -> None:
    """A server that accepts connections and sends nothing."""

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(keep_silent, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        async with (
            Redis(host="127.0.0.1", port=port, protocol=3) as away,
            reused_pipelines() as pipelines,
        ):
            with pytest.raises(TimeoutError):
                await pipelines.exchange(away, [pack(("PING",))], within=0.2)
