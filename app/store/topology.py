"""The way to Redis: which server takes an app's writes now, also after a failover.

The library's own ideas of time and patience are switched off; see `connect`.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError, SlotNotCoveredError

from app.store.bounded import BoundedParser
from backchannel_logout import AppKeys
from backchannel_logout.redis.connection import AsyncClient, aclose, connect_async

# A write that takes longer than this has failed. It leaves the rest of a request's 1.8 s for
# the journal and the answer.
REDIS_SECONDS = 1.0

# Writes are grouped, so that a few connections carry any load.
MAX_CONNECTIONS = 32

# For everything else: reads, which take turns (`app.history.app_reader`), and notes for operators.
MAX_OTHER_CONNECTIONS = 128
_READS_AT_ONCE = 16

# While a failover is under way every write fails; the nodes need not be asked for each.
_LOOK_UP_PAUSE = 0.2
_LOOK_UP_SECONDS = 0.2
_MOST_LOOK_UPS = 3


def connect(url: str, *, max_connections: int = MAX_CONNECTIONS) -> AsyncClient:
    """A client for ``url``, in a form of `backchannel_logout.redis.connection`; connects on use."""
    return connect_async(
        url,
        timeout=REDIS_SECONDS,
        max_connections=max_connections,
        client_name="backchannel-logout-receiver",
    )


class RedisTopology:
    """The clients of the servers that take writes.

    In a Cluster each primary gets a client of its own: what ``WAIT`` says counts only on the
    connection that wrote, and the library's Cluster client chooses one for each command.
    """

    def __init__(self, client: AsyncClient, *, bounded: bool = False) -> None:
        """``bounded``: answers that are too large end their connection; see `bounded`."""
        self._client = client
        self._options: dict[str, Any] = {"parser_class": BoundedParser} if bounded else {}
        if not isinstance(client, RedisCluster):
            client.connection_pool.connection_kwargs.update(self._options)
        # Once: `isinstance` is slow for the library's classes, and each write would call it.
        self._cluster = client if isinstance(client, RedisCluster) else None
        self.only = None if self._cluster is not None else cast("Redis", client)
        """The client for every app; None in a Cluster."""
        self._nodes: dict[str, Redis] = {}
        self._primary: object = None
        self._looked_up = float("-inf")
        self.turns = asyncio.Semaphore(_READS_AT_ONCE)
        """Whoever reads for people takes one for each exchange."""

    @property
    def client(self) -> AsyncClient:
        """For keys outside any app's slot."""
        return self._client

    def place(self, app: str) -> str:
        """The server that holds the app, as far as is known without asking.

        The name is a Cluster node's; where there is one primary only, it is empty.
        """
        if self._cluster is None:
            return ""
        with contextlib.suppress(RedisError, RedisClusterException):
            return str(self._cluster.get_node_from_key(AppKeys(app).meta).name)  # type: ignore[union-attr]
        return ""

    async def primary(self, app: str) -> Redis:
        """The client of the server that takes the app's writes."""
        if not isinstance(self._client, RedisCluster):
            return self._client
        return await self.holder(AppKeys(app).meta)

    async def holder(self, key: str) -> Redis:
        """The client of the server that takes writes to this key."""
        if not isinstance(self._client, RedisCluster):
            return self._client
        await self._client.initialize()
        node = self._client.get_node_from_key(key)
        if node is None:
            raise SlotNotCoveredError("no primary")
        return self._node(node.name, node.host, node.port)

    async def primaries(self) -> Mapping[str, Redis]:
        """Every server that takes writes, by its `place`."""
        if not isinstance(self._client, RedisCluster):
            return {"": self._client}
        await self._client.initialize()
        return {
            node.name: self._node(node.name, node.host, node.port)
            for node in self._client.get_primaries()
        }

    async def redirected(self, script: str, command: Sequence[str | int]) -> int:
        """Run a script in a Cluster whose slot is moving, where the library follows ``ASK``."""
        answer: int = await self._client.execute_command("EVAL", script, *command)
        return answer

    async def look_up(self) -> None:
        """Ask anew who is primary, and leave one that is none any more.

        A connection to a deposed primary can stay open and answer: what it acknowledges is
        lost when it becomes a replica.
        """
        if isinstance(self._client, RedisCluster):
            await self._client.initialize()
            await self._ask_cluster(self._client)
            names = {node.name for node in self._client.get_primaries()}
            for name in self._nodes.keys() - names:
                await self._nodes.pop(name).aclose()
            return
        pool = self._client.connection_pool
        if isinstance(pool, SentinelConnectionPool):
            # Our own note: a new connection tells the pool, which leaves those in use alone.
            before, self._primary = self._primary, await pool.get_master_address()
            if before not in (None, self._primary):
                await pool.disconnect(inuse_connections=True)

    @staticmethod
    async def _ask_cluster(client: RedisCluster) -> None:
        """The topology from a node that answers: the library asks them in random order."""
        for attempt in range(_MOST_LOOK_UPS):
            try:
                async with asyncio.timeout(_LOOK_UP_SECONDS):
                    await client.nodes_manager.initialize()
                return
            except (RedisError, RedisClusterException, OSError, TimeoutError):
                if attempt + 1 == _MOST_LOOK_UPS:
                    raise

    async def look_up_soon(self) -> None:
        """`look_up` after a write has failed in a Cluster, where no connection notices that the
        slot is elsewhere. Never raises."""
        if not isinstance(self._client, RedisCluster):
            return
        now = asyncio.get_running_loop().time()
        if now - self._looked_up < _LOOK_UP_PAUSE:
            return
        self._looked_up = now
        with contextlib.suppress(RedisError, RedisClusterException, OSError, TimeoutError):
            await self.look_up()

    async def aclose(self) -> None:
        for client in self._nodes.values():
            await client.aclose()
        await aclose(self._client)

    def _node(self, name: str, host: str, port: str | int) -> Redis:
        if name not in self._nodes:
            options: dict[str, Any] = dict(cast("RedisCluster", self._client).connection_kwargs)
            options |= self._options
            options.pop("response_callbacks", None)  # the client's, not the connection's
            pool = ConnectionPool(host=host, port=int(port), retry=Retry(NoBackoff(), 0), **options)
            self._nodes[name] = Redis.from_pool(pool)
        return self._nodes[name]
