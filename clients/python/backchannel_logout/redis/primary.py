"""The server that takes an app's writes now: a plain client of it, also after a failover.

A listener waits in its reads. In a Cluster, and behind Sentinels, such a read needs a connection
to the one server that has the app's stream, and must be broken off when another one takes over.
Answers are as they come from the server: bytes, numbers and lists.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, cast

import redis.asyncio
import redis.asyncio.sentinel
from redis.exceptions import RedisClusterException, RedisError, SlotNotCoveredError

from backchannel_logout.redis import internals
from backchannel_logout.redis.cancellation import end_if_cancelled
from backchannel_logout.redis.connection import AsyncClient, aclose, check_url, connect_async
from backchannel_logout.redis.pipeline import Command, Pipeline

# What Redis and the way to it can do to a command; time-outs of asyncio are an OSError, too.
FAULTS = (RedisError, RedisClusterException, OSError)

# Answers in one form, whatever the server and the app's own client speak.
_PLAIN: dict[str, Any] = {"protocol": 2, "decode_responses": False}


class Primary:
    """Runs commands on the server that has ``key``.

    ``given`` is a URL (see `connection`) or a client of the app's, which is only copied: the
    connections are always our own, and each wait of theirs for a socket is bounded by
    ``timeout`` (seconds). Commands run side by side, on a connection each, unless
    ``one_at_a_time``. Raises ``ValueError`` for a URL of another form.
    """

    def __init__(
        self, given: str | AsyncClient, key: str, *, timeout: float, one_at_a_time: bool = False
    ) -> None:
        self._key = key
        self._timeout = timeout
        self._cluster: redis.asyncio.RedisCluster | None = None
        self._plain: redis.asyncio.Redis | None = None
        self._address: object = None
        self._line: Pipeline | None = None
        self._turn = asyncio.Lock() if one_at_a_time else contextlib.nullcontext()
        self._ours = isinstance(given, str)
        if isinstance(given, str):
            check_url(given)
            client = connect_async(given, timeout=timeout, **_PLAIN)
        else:
            client = given
        if isinstance(client, redis.asyncio.RedisCluster):
            self._cluster = client
        else:
            self._plain = _raw(client) if self._ours else _copy(client, timeout)

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Send the commands in one go and return their answers, errors of the server among
        them. Raises one of `FAULTS` where there is no answer."""
        async with self._turn:
            client = await self._client()
            pipeline = client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            try:
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
            finally:
                end_if_cancelled()
        return answers

    async def ask(self, *commands: Command) -> list[Any]:
        """As `run`; raises the first error of the server, too."""
        return without_errors(await self.run(commands))

    async def line(self) -> Pipeline:
        """The connection for reads that wait; another one where that has ended, or where another
        server has the key now. Raises one of `FAULTS`."""
        pool = (await self._client()).connection_pool
        if self._line is None or not await self._line.is_fit():
            await self.hang_up()
            self._line = await Pipeline.open(pool)
        end_if_cancelled()
        return self._line

    async def hang_up(self) -> None:
        """Close that connection, whatever is on the way; `line` opens another one."""
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    async def look_up(self) -> None:
        """Ask who is primary, and leave one that is none any more.

        A connection to a deposed primary can stay open, and answer, and never bring anything.
        """
        if self._cluster is not None:
            await self._cluster.initialize()
            await self._cluster.nodes_manager.initialize()
            return
        pool = cast("redis.asyncio.Redis", self._plain).connection_pool
        if isinstance(pool, redis.asyncio.sentinel.SentinelConnectionPool):
            before, self._address = self._address, await pool.get_master_address()
            if before not in (None, self._address):
                await self.hang_up()
                await pool.disconnect(inuse_connections=True)

    @property
    def has_sentinels(self) -> bool:
        """Whether only `look_up` tells that a primary has been deposed."""
        pool = getattr(self._plain, "connection_pool", None)
        return isinstance(pool, redis.asyncio.sentinel.SentinelConnectionPool)

    async def leave(self) -> None:
        """Close the connections; the next command opens another one."""
        await self.hang_up()
        if self._plain is not None:
            await self._plain.connection_pool.disconnect(inuse_connections=False)

    async def aclose(self) -> None:
        """Close what is our own."""
        await self.hang_up()
        if self._plain is not None:
            if self._ours and self._cluster is None:
                await aclose(self._plain)
            else:
                await self._plain.aclose()
        if self._cluster is not None and self._ours:
            await self._cluster.aclose()

    async def _client(self) -> redis.asyncio.Redis:
        if self._cluster is None:
            return cast("redis.asyncio.Redis", self._plain)
        await self._cluster.initialize()
        node = self._cluster.get_node_from_key(self._key)
        if node is None:
            raise SlotNotCoveredError("no primary")
        address = (node.host, int(node.port))
        if self._plain is not None and self._address != address:
            await self.hang_up()
            await self._plain.aclose()
            self._plain = None
        if self._plain is None:
            options = {
                name: value
                for name, value in self._cluster.connection_kwargs.items()
                if name not in ("response_callbacks", "host", "port")
            }
            pool = redis.asyncio.ConnectionPool(
                host=node.host, port=int(node.port), **(options | _waits(self._timeout))
            )
            self._plain, self._address = _raw(redis.asyncio.Redis.from_pool(pool)), address
        return self._plain


def without_errors(answers: list[Any]) -> list[Any]:
    """The answers, if the server took every command; else raises its first error."""
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _waits(timeout: float) -> dict[str, Any]:
    return internals.async_options(timeout) | _PLAIN


def _copy(client: redis.asyncio.Redis, timeout: float) -> redis.asyncio.Redis:
    """A client of the same servers, with connections of its own."""
    own = internals.pool_like(client.connection_pool, **_waits(timeout))
    return _raw(redis.asyncio.Redis.from_pool(own))


def _raw(client: redis.asyncio.Redis) -> redis.asyncio.Redis:
    """Without the library's own readings of answers, which differ by release and protocol."""
    client.response_callbacks.clear()
    return client
