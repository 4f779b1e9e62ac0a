"""One connection to the server that has an app's keys now, and whether it still is the one."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import redis.asyncio
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import SlotNotCoveredError

from .connection import AsyncClient, Command


class PrimaryLink:
    """A connection that stays on one server, so that what it says follows on what it said.

    Every method raises what the library raises.
    """

    def __init__(self, redis_: redis.asyncio.Redis) -> None:
        self._redis = redis_

    @classmethod
    @asynccontextmanager
    async def open(cls, client: AsyncClient, key: str) -> AsyncIterator["PrimaryLink"]:
        """Connect to the primary that ``key`` is on, looked up anew."""
        pool = await _pool_of_its_primary(client, key)
        link = redis.asyncio.Redis(connection_pool=pool, single_connection_client=True)
        try:
            await link.initialize()
            yield cls(link)
        finally:
            if link.connection is not None:
                await link.connection.disconnect()
            await link.aclose()
            if isinstance(client, redis.asyncio.RedisCluster):
                await pool.aclose()

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send the commands in one round trip; what Redis refuses is an exception in its place."""
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    @property
    def is_elected(self) -> bool:
        """Whether Sentinels say who is primary, so that `has_moved` is worth asking."""
        return isinstance(self._redis.connection_pool, SentinelConnectionPool)

    async def has_moved(self) -> bool:
        """Whether the Sentinels name another primary.

        One that was cut off from them goes on answering, and takes itself for the primary.
        """
        pool = self._redis.connection_pool
        if not isinstance(pool, SentinelConnectionPool):
            return False
        elected = await pool.sentinel_manager.discover_master(pool.service_name)
        here = cast("Any", self._redis.connection)
        return (str(elected[0]), int(elected[1])) != (str(here.host), int(here.port))


async def _pool_of_its_primary(client: AsyncClient, key: str) -> redis.asyncio.ConnectionPool:
    if not isinstance(client, redis.asyncio.RedisCluster):
        return client.connection_pool
    await client.initialize()
    await client.nodes_manager.initialize()
    node = client.get_node_from_key(key)
    if node is None:
        raise SlotNotCoveredError("no primary")
    options: dict[str, Any] = dict(client.connection_kwargs)
    options.pop("response_callbacks", None)  # the client's, not the connection's
    return redis.asyncio.ConnectionPool(host=node.host, port=int(node.port), **options)
