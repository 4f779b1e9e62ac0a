"""The servers that take the writes of each app, with the receiver's own patience."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Connection, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from app.store.connecting import connect_patiently, patient
from backchannel_logout import AppKeys
from backchannel_logout.redis.connection import AsyncClient, aclose, connect_async
from backchannel_logout.redis.internals import BoundedParser
from backchannel_logout.redis.topology import Topology

# A write that takes longer has failed. It leaves the rest of a request's 1.8 s for the journal and
# the answer.
REDIS_SECONDS = 1.0

# Writes are batched, so a few connections carry any load.
MAX_CONNECTIONS = 32

# For everything else: reads, which take turns (`app.history.app_reader`), and records for
# operators.
MAX_OTHER_CONNECTIONS = 128
_MAX_CONCURRENT_READS = 16

# Every write fails during a failover; not each of them needs a look-up.
_LOOK_UP_PAUSE = 0.2
_LOOK_UP_SECONDS = 0.2
_LOOK_UP_ATTEMPTS = 3


def connect(url: str, *, max_connections: int = MAX_CONNECTIONS) -> AsyncClient:
    """A client for ``url``, in a form of `backchannel_logout.redis.connection`; connects on use."""
    return connect_async(
        url,
        timeout=REDIS_SECONDS,
        max_connections=max_connections,
        client_name="backchannel-logout-receiver",
    )


class RedisTopology(Topology):
    """`Topology`, by relying app.

    ``bounded``: a reply that is too large ends its connection; see `BoundedParser`.
    """

    def __init__(self, client: AsyncClient, *, bounded: bool = False) -> None:
        options: dict[str, Any] = {"parser_class": BoundedParser} if bounded else {}
        if isinstance(client, RedisCluster):
            options["connection_class"] = patient(
                client.connection_kwargs.get("connection_class", Connection)
            )
        else:
            client.connection_pool.connection_kwargs.update(options)
            connect_patiently(client)
        super().__init__(
            client,
            node_options={"retry": Retry(NoBackoff(), 0)} | options,
            attempts=_LOOK_UP_ATTEMPTS,
            attempt_seconds=_LOOK_UP_SECONDS,
        )
        self._looked_up = float("-inf")
        self.round_trips: dict[str, float] = {}
        """Seconds of the latest one to each server, by `place`; see `RedisMonitor`."""
        self.turns = asyncio.Semaphore(_MAX_CONCURRENT_READS)
        """Each read for a person takes one turn per exchange."""

    def place(self, app: str) -> str:
        """The name of the Cluster node that holds the app, as far as is known without asking.

        Empty outside a Cluster.
        """
        if self._cluster is None:  # nearly always
            return ""
        return self.place_of(AppKeys(app).meta)

    def place_of(self, key: str) -> str:
        """`place`, for any key."""
        if self._cluster is None:
            return ""
        with contextlib.suppress(RedisError, RedisClusterException):
            return str(self._cluster.get_node_from_key(key).name)  # type: ignore[union-attr]
        return ""

    async def primary(self, app: str) -> Redis:
        """The client of the server that takes the app's writes."""
        if (only := self.only) is not None:
            return only
        return await self.holder(AppKeys(app).meta)

    async def redirected(self, script: str, command: Sequence[str | int]) -> int:
        """Run a script in a Cluster whose slot is moving, where the library follows ``ASK``."""
        reply: int = await self.client.execute_command("EVAL", script, *command)
        return reply

    async def look_up_soon(self) -> None:
        """`look_up` after a write failed in a Cluster, where no connection notices that the slot
        has moved. At most once in `_LOOK_UP_PAUSE`; never raises."""
        if self._cluster is None:
            return
        now = asyncio.get_running_loop().time()
        if now - self._looked_up < _LOOK_UP_PAUSE:
            return
        self._looked_up = now
        with contextlib.suppress(RedisError, RedisClusterException, OSError):
            await self.look_up()

    async def aclose(self) -> None:
        await self.close_nodes()
        await aclose(self.client)
