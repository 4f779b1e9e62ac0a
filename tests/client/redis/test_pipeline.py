"""`Pipeline`: replies one by one, errors among them, none mixed up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import hiredis
import pytest
import redis
import redis.asyncio

from backchannel_logout.redis.pipeline import Command, Pipeline, pack_in_python
from tests.support.servers.redis_server import RedisServer


@asynccontextmanager
async def line_to(server: RedisServer, **options: Any) -> AsyncIterator[Pipeline]:
    pool = redis.asyncio.ConnectionPool.from_url(server.url, protocol=2, **options)
    line = await Pipeline.open(pool)
    yield line
    await line.close()


async def test_an_answer_is_there_before_a_later_command_has_one(shared_redis: RedisServer) -> None:
    async with line_to(shared_redis) as line:
        await line.send([("ECHO", "now"), ("BLPOP", "line:nothing", 0)])
        async with asyncio.timeout(60):
            assert await line.receive(1) == [b"now"]
        waits = asyncio.create_task(line.receive(1))
        await asyncio.sleep(0.05)
        assert not waits.done()
        with shared_redis.client() as client:
            client.rpush("line:nothing", "later")
        async with asyncio.timeout(60):
            assert await waits == [[b"line:nothing", b"later"]]


async def test_an_error_reply_is_in_its_place(shared_redis: RedisServer) -> None:
    async with line_to(shared_redis) as line:
        await line.send([("ECHO", "a"), ("NO-SUCH-COMMAND",), ("ECHO", "b")])
        first, refused, last = await line.receive(3)
    assert isinstance(refused, redis.ResponseError)
    assert (first, last) == (b"a", b"b")


async def test_a_line_that_was_closed_is_not_opened_again_behind_our_back(
    shared_redis: RedisServer,
) -> None:
    async with line_to(shared_redis) as line:
        assert line.is_open
        await line.close()
        assert not line.is_open
        with pytest.raises(redis.ConnectionError):
            await line.send([("PING",)])


async def test_a_line_that_the_server_has_ended_is_known_as_such(shared_redis: RedisServer) -> None:
    async with line_to(shared_redis) as line:
        await line.send([("CLIENT", "ID")])
        [number] = await line.receive(1)
        assert await line.is_usable()
        with shared_redis.client() as client:
            client.client_kill_filter(_id=str(number))
        async with asyncio.timeout(60):
            while await line.is_usable():
                await asyncio.sleep(0.01)
    assert not await line.is_usable()


async def test_a_server_that_refuses_the_connection_leaves_none_open(
    shared_redis: RedisServer,
) -> None:
    pool = redis.asyncio.ConnectionPool.from_url(shared_redis.url, username="nobody", password="x")
    with pytest.raises(redis.AuthenticationError):
        await Pipeline.open(pool)


@pytest.mark.parametrize(
    "command",
    [("PING",), ("XACK", "k", b"\xff\x00", 1, 18446744073709551615), ("ECHO", "Grüße, 你好", "")],
)
def test_a_command_is_pack_in_python_as_hiredis_does(command: Command) -> None:
    """hiredis is used if it is installed."""
    assert pack_in_python(command) == hiredis.pack_command(command)  # type: ignore[arg-type]
