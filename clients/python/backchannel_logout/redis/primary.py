"""The server that holds one app's keys, for a listener or a near cache: also after a failover.

Replies are as the server sends them: bytes, numbers and lists, whatever the app's own client
decodes and whichever protocol it speaks.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import redis.asyncio
from redis.exceptions import RedisClusterException, RedisError

from backchannel_logout.redis import internals
from backchannel_logout.redis.cancellation import end_if_cancelled
from backchannel_logout.redis.connection import AsyncClient, aclose, check_url, connect_async
from backchannel_logout.redis.pipeline import Command, Pipeline, pack
from backchannel_logout.redis.topology import Topology

FAULTS = (RedisError, RedisClusterException, OSError)
"""What a command can raise; ``TimeoutError`` is an ``OSError``."""

# One form of replies, whatever the server and the app's client speak.
_PLAIN: dict[str, Any] = {"protocol": 2, "decode_responses": False}


class Primary:
    """Runs commands on the server that has ``key``.

    ``given`` is a URL (see `connection`) or the app's own client, which is only copied: the
    connections are always our own, and ``timeout`` (seconds) bounds each exchange. Concurrent calls
    of `run` use a connection each, unless ``one_at_a_time``. Raises ``ValueError`` for a URL of
    another form.
    """

    def __init__(
        self, given: str | AsyncClient, key: str, *, timeout: float, one_at_a_time: bool = False
    ) -> None:
        self._key = key
        self._timeout = timeout
        self._pipeline: Pipeline | None = None
        self._pipeline_server: redis.asyncio.Redis | None = None
        self._turn = asyncio.Lock() if one_at_a_time else contextlib.nullcontext()
        options = internals.async_options(timeout) | _PLAIN
        client: AsyncClient
        self._close: Callable[[], Awaitable[None]] | None = None
        if isinstance(given, str):
            check_url(given)
            client = connect_async(given, timeout=timeout, **_PLAIN)
            self._close = partial(aclose, client)
        elif isinstance(given, redis.asyncio.RedisCluster):
            client = given
        else:
            pool = internals.pool_like(given.connection_pool, **options)
            client = redis.asyncio.Redis.from_pool(pool)
            self._close = client.aclose  # its Sentinels are the app's
        self._topology = Topology(client, node_options=options)

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Send the commands in one go and return the replies, errors of the server among them.

        Raises one of `FAULTS` when there is no reply.
        """
        async with self._turn:
            server = await self._topology.holder(self._key)
            pipeline = await Pipeline.acquire(server.connection_pool)
            until = asyncio.get_running_loop().time() + self._timeout
            try:
                replies = await pipeline.exchange([*map(pack, commands)], until=until)
            finally:
                await pipeline.release()
                end_if_cancelled()
        return replies

    async def call(self, *commands: Command) -> list[Any]:
        """`run`, and raise the first error of the server."""
        return without_errors(await self.run(commands))

    async def pipeline(self) -> Pipeline:
        """The connection for reads that block: a new one if it was closed, or if another server has
        the key now. Raises one of `FAULTS`."""
        server = await self._topology.holder(self._key)
        pipeline = self._pipeline
        if (
            pipeline is None
            or server is not self._pipeline_server
            or not await pipeline.is_usable()
        ):
            await self.hang_up()
            pipeline = await Pipeline.open(server.connection_pool)
            self._pipeline, self._pipeline_server = pipeline, server
        end_if_cancelled()
        return pipeline

    async def hang_up(self) -> None:
        """Close that connection, whatever is in transit; `pipeline` opens another one."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            await pipeline.close()

    async def look_up(self) -> bool:
        """Find the primary again. True: the `pipeline` led to another server, and was closed.

        A deposed primary can stay open and answer, and its stream gets no events.
        """
        await self._topology.look_up()
        pipeline, elected = self._pipeline, self._topology.elected
        if pipeline is None or elected is None or pipeline.address == elected:
            return False
        await self.hang_up()
        return True

    @property
    def has_sentinels(self) -> bool:
        """Whether only `look_up` notices that a primary was deposed."""
        return self._topology.has_sentinels

    async def disconnect(self) -> None:
        """Close the connections; the next command opens another one."""
        await self.hang_up()
        await self._topology.disconnect_idle()

    async def aclose(self) -> None:
        """Close the connections of its own."""
        await self.hang_up()
        await self._topology.close_nodes()
        if self._close is not None:
            await self._close()


def without_errors(replies: list[Any]) -> list[Any]:
    """The replies; raises the first error of the server among them."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
