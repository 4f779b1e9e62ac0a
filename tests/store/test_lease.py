"""Of several receivers one has the lease; it passes on, and Redis' absence changes nothing."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from app.store.lease import READINGS_KEY, SECONDS, Lease
from tests.support.servers.redis_server import RedisServer


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_server.url) as client:
        await client.delete(READINGS_KEY)
        yield client


async def test_only_one_of_three_has_it_and_keeps_it(client: Redis) -> None:
    leases = [Lease(client) for _ in range(3)]
    for _ in range(3):
        assert [await lease.renew() for lease in leases] == [True, False, False]
    assert 0 < await client.pttl(READINGS_KEY) <= SECONDS * 1000


async def test_another_takes_it_when_the_holder_leaves(client: Redis) -> None:
    first, second = Lease(client), Lease(client)
    assert await first.renew()
    await second.release()  # it has nothing to release
    assert not await second.renew()
    await first.release()
    while not await second.renew():
        assert await client.pttl(READINGS_KEY) <= 1
    assert not await first.renew()


async def test_a_holder_that_slept_does_not_take_it_back(client: Redis) -> None:
    first, second = Lease(client), Lease(client)
    assert await first.renew()
    await client.delete(READINGS_KEY)  # it has expired
    assert await second.renew()
    assert not await first.renew()
    assert await second.renew()


async def test_each_reads_for_itself_without_the_right_to_the_key(
    client: Redis, redis_server: RedisServer
) -> None:
    await client.execute_command(
        "ACL", "SETUSER", "older", "on", ">pw", "~other", "+@all"
    )  # the rules of an earlier release
    try:
        async with Redis.from_url(redis_server.url, username="older", password="pw") as older:
            leases = [Lease(older), Lease(older)]
            assert [await lease.renew() for lease in leases] == [True, True]
            await client.execute_command("ACL", "SETUSER", "older", "~*")
            assert [await lease.renew() for lease in leases] == [True, False]
            assert [await lease.renew() for lease in leases] == [True, False]
    finally:
        await client.execute_command("ACL", "DELUSER", "older")
