"""One connection to the server that has an app's keys now, and whether it still is the one."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import redis.asyncio
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import SlotNotCoveredError

from backchannel_logout.redis.connection import AsyncClient, Command


class PrimaryLink:
    """One connection, never made anew: what its server says follows on what it said.

    A connection of its own, none of the client's pool, where every question may get another one.
    Every method raises what the library raises.
    """

    def __init__(
        self, pool: redis.asyncio.ConnectionPool, connection: redis.asyncio.Connection
    ) -> None:
        self._pool = pool
        self._connection = connection
        self._forms = redis.asyncio.Redis(connection_pool=pool)  # knows how answers are read

    @classmethod
    @asynccontextmanager
    async def open(cls, client: AsyncClient, key: str) -> AsyncIterator["PrimaryLink"]:
        """Connect to the primary that ``key`` is on, looked up anew."""
        pool = await _pool_of_its_primary(client, key)
        connection = cast("redis.asyncio.Connection", pool.make_connection())
        try:
            await connection.connect()
            yield cls(pool, connection)
        finally:
            await connection.disconnect(nowait=True)

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send the commands in one round trip; what Redis refuses is an exception in its place."""
        if not self._connection.is_connected:  # the library would make another one
            raise redis.ConnectionError("the connection has ended")
        return await self._send(commands)

    async def part(self, commands: Sequence[Command]) -> None:
        """Send last commands, on a new connection where a wait was broken off."""
        if commands:
            await self._send(commands)

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        packed = self._connection.pack_commands(commands)
        await self._connection.send_packed_command(packed)
        answers: list[Any] = []
        for command in commands:
            try:
                answers.append(await self._forms.parse_response(self._connection, str(command[0])))
            except redis.ResponseError as refused:
                answers.append(refused)
        return answers

    @property
    def is_elected(self) -> bool:
        """Whether Sentinels say who is primary, so that `has_moved` is worth asking."""
        return isinstance(self._pool, SentinelConnectionPool)

    async def has_moved(self) -> bool:
        """Whether the Sentinels name another primary.

        One that was cut off from them goes on answering, and takes itself for the primary.
        """
        if not isinstance(self._pool, SentinelConnectionPool):
            return False
        elected = await self._pool.sentinel_manager.discover_master(self._pool.service_name)
        here = self._connection
        return (str(elected[0]), int(elected[1])) != (str(here.host), int(here.port))


async def _pool_of_its_primary(client: AsyncClient, key: str) -> redis.asyncio.ConnectionPool:
    if not isinstance(client, redis.asyncio.RedisCluster):
        return client.connection_pool
    await client.initialize()
    await client.nodes_manager.initialize()
    node = client.get_node_from_key(key)
    if node is None:
        raise SlotNotCoveredError("no primary")
    options: dict[str, Any] = dict(client.connection_kwargs) | {"decode_responses": False}
    options.pop("response_callbacks", None)  # the client's, not the connection's
    return redis.asyncio.ConnectionPool(host=node.host, port=int(node.port), **options)
