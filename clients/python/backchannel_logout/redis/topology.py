"""Which servers take writes now: standalone, behind Sentinels, or in a Cluster.

Each of them gets a plain client. In a Cluster the library's client picks a connection for each
command, but ``WAIT`` counts only what its own connection wrote, and a read that blocks needs a
connection to the one server that has the stream.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import RedisClusterException, RedisError, SlotNotCoveredError

from backchannel_logout.redis.connection import AsyncClient

# Options of a Cluster client which a connection does not have.
_NOT_OF_NODES = ("response_callbacks", "host", "port")


class Topology:
    """The clients of the servers that take writes.

    ``node_options`` are added to those of a Cluster's client for each of its nodes.
    ``attempts``: how many nodes a look-up tries, each for ``attempt_seconds``.
    """

    def __init__(
        self,
        client: AsyncClient,
        *,
        node_options: Mapping[str, Any],
        attempts: int = 1,
        attempt_seconds: float | None = None,
    ) -> None:
        self._client = client
        # Once: the library's classes are slow in `isinstance`, and this is on the path of a write.
        self._cluster = client if isinstance(client, RedisCluster) else None
        self.only = None if self._cluster is not None else cast("Redis", client)
        """The client for every key; None in a Cluster."""
        self._node_options = node_options
        self._attempts = attempts
        self._attempt_seconds = attempt_seconds
        self._nodes: dict[str, Redis] = {}
        self.elected: tuple[str, int] | None = None
        """The primary that Sentinels named at the last `look_up`."""

    @property
    def client(self) -> AsyncClient:
        """For keys outside every app's slot."""
        return self._client

    @property
    def has_sentinels(self) -> bool:
        """Whether only `look_up` notices that the primary was deposed."""
        return self._cluster is None and isinstance(
            cast("Redis", self._client).connection_pool, SentinelConnectionPool
        )

    async def holder(self, key: str) -> Redis:
        """The client of the server that takes writes to this key."""
        if self._cluster is None:
            return cast("Redis", self._client)
        await self._cluster.initialize()
        node = self._cluster.get_node_from_key(key)
        if node is None:
            raise SlotNotCoveredError("no primary")
        return self._node(node.name, node.host, node.port)

    async def primaries(self) -> Mapping[str, Redis]:
        """Every server that takes writes, by name; the only one outside a Cluster is ``""``."""
        if self._cluster is None:
            return {"": cast("Redis", self._client)}
        await self._cluster.initialize()
        return {
            node.name: self._node(node.name, node.host, node.port)
            for node in self._cluster.get_primaries()
        }

    async def look_up(self) -> None:
        """Find the primaries again, and close the connections to those that no longer are.

        A connection to a deposed primary can stay open and answer: what it acknowledges is lost
        when it becomes a replica.
        """
        if self._cluster is not None:
            await self._cluster.initialize()
            await self._look_up_nodes(self._cluster)
            names = {node.name for node in self._cluster.get_primaries()}
            for name in self._nodes.keys() - names:
                await self._nodes.pop(name).aclose()
            return
        pool = cast("Redis", self._client).connection_pool
        if isinstance(pool, SentinelConnectionPool):
            # Compared here: a new connection updates the pool's address, and leaves those in use.
            before, elected = self.elected, await pool.get_master_address()
            self.elected = (str(elected[0]), int(elected[1]))
            if before not in (None, self.elected):
                await pool.disconnect(inuse_connections=True)

    async def _look_up_nodes(self, cluster: RedisCluster) -> None:
        """Ask a node that answers: the library tries them in random order."""
        for attempt in range(1, self._attempts + 1):
            try:
                async with asyncio.timeout(self._attempt_seconds):
                    await cluster.nodes_manager.initialize()
                return
            except (RedisError, RedisClusterException, OSError):
                if attempt == self._attempts:
                    raise

    def _node(self, name: str, host: str, port: str | int) -> Redis:
        if name not in self._nodes:
            options = {
                option: value
                for option, value in cast("RedisCluster", self._cluster).connection_kwargs.items()
                if option not in _NOT_OF_NODES
            }
            pool = ConnectionPool(host=host, port=int(port), **(options | dict(self._node_options)))
            self._nodes[name] = Redis.from_pool(pool)
        return self._nodes[name]

    async def disconnect_idle(self) -> None:
        """Close idle connections; the next command opens another one."""
        clients = [*self._nodes.values()] if self._cluster is not None else [self._client]
        for client in cast("list[Redis]", clients):
            await client.connection_pool.disconnect(inuse_connections=False)

    async def close_nodes(self) -> None:
        """Close the clients of a Cluster's nodes."""
        for client in self._nodes.values():
            await client.aclose()
        self._nodes.clear()
