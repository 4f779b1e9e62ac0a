"""Commands and replies on one connection, each reply as soon as Redis sends it.

redis-py's own pipeline returns all replies together after the last one, and costs about four times
as much per command: it packs in Python and sets up a deadline for each reply. That was half of a
logout in the receiver (docs/performance.md).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import redis
import redis.asyncio

from backchannel_logout.redis import internals

Command = tuple[str | bytes | int | float, ...]


class Pipeline:
    """Sends commands and reads their replies in order; an error of Redis is a reply.

    One task at a time. `send` and `receive` have no deadline: the caller sets one for both. After a
    reply that was not read to its end, also because of a cancellation, call `close`: otherwise the
    next command would read it as its own. Every method raises redis-py's exceptions.
    """

    def __init__(self, connection: Any, pool: redis.asyncio.ConnectionPool | None = None) -> None:
        """``pool``: where the connection returns to."""
        self._connection = connection
        self._wire = internals.wire_of(connection)
        self._pool = pool

    @classmethod
    async def open(cls, pool: redis.asyncio.ConnectionPool) -> "Pipeline":
        """Connect as the pool does, outside the pool: for a connection that is always in use."""
        connection: Any = pool.make_connection()
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return cls(connection)

    @classmethod
    async def acquire(cls, pool: redis.asyncio.ConnectionPool) -> "Pipeline":
        """Take a connection of the pool, until `release` or `close`."""
        return cls(await internals.connection_of(pool), pool)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the server."""
        return str(self._connection.host), int(self._connection.port)

    @property
    def is_open(self) -> bool:
        """Whether it is open, as far as is known without a system call."""
        connection, wire = self._connection, self._wire
        return bool(connection.is_connected and not wire.at_eof() and not wire.should_reconnect())

    async def is_usable(self) -> bool:
        """Whether it can take the next commands: a server or a proxy closes a connection that was
        silent for long, for instance while a handler works."""
        return self.is_open and not await internals.has_unread_data(self._connection)

    async def send(self, commands: Sequence[Command]) -> None:
        """Send the commands in one write."""
        if not self._connection.is_connected:
            raise redis.ConnectionError("the connection is closed")
        await self._wire.write([b"".join(map(pack, commands))])

    async def receive(self, count: int) -> list[Any]:
        """The next ``count`` replies."""
        read = self._wire.read
        return [await read() for _ in range(count)]

    async def exchange(self, packed: Sequence[bytes], *, until: float) -> list[Any]:
        """Send packed commands and return the reply to each.

        Raises ``TimeoutError`` at ``until`` (the event loop's time). On any exception the pipeline
        is closed, and each command may or may not have been executed.
        """
        loop = asyncio.get_running_loop()
        # Aborts the connection, so that the read fails: `asyncio.timeout` costs a fiftieth of a
        # logout (docs/performance.md).
        deadline = loop.call_at(until, self._wire.abort)
        try:
            await self._wire.write([b"".join(packed)])
            read = self._wire.read
            return [await read() for _ in packed]
        except BaseException as error:
            await self.close()
            if isinstance(error, Exception) and loop.time() >= until:
                raise TimeoutError from error
            raise
        finally:
            deadline.cancel()

    async def release(self) -> None:
        """Return the connection to its pool, if it came from one."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.release(self._connection)

    async def close(self) -> None:
        """Close the connection at once, whatever is in transit."""
        await self._connection.disconnect(nowait=True)
        await self.release()


class ReusedPipelines:
    """Round trips of one task that follow each other: keeps the connection to each server.

    Taking it from the pool each time costs a fortieth of a logout (docs/performance.md).
    `reused_pipelines` makes one.
    """

    def __init__(self) -> None:
        self._kept: dict[redis.asyncio.Redis, Pipeline] = {}

    async def exchange(
        self, server: redis.asyncio.Redis, packed: Sequence[bytes], *, within: float
    ) -> list[Any]:
        """`Pipeline.exchange` with this server, in ``within`` seconds, the connection included."""
        until = asyncio.get_running_loop().time() + within
        pipeline = self._kept.pop(server, None)
        if pipeline is not None and not pipeline.is_open:
            await pipeline.close()
            pipeline = None
        if pipeline is None:
            async with asyncio.timeout_at(until):
                pipeline = await Pipeline.acquire(server.connection_pool)
        replies = await pipeline.exchange(packed, until=until)
        self._kept[server] = pipeline
        return replies

    async def release(self) -> None:
        """Return the connections to their pools."""
        while self._kept:
            await self._kept.popitem()[1].release()


@contextlib.asynccontextmanager
async def reused_pipelines() -> AsyncIterator[ReusedPipelines]:
    """`ReusedPipelines`, whose connections return to their pools at the end."""
    pipelines = ReusedPipelines()
    try:
        yield pipelines
    finally:
        await pipelines.release()


def pack_in_python(command: Command) -> bytes:
    """A command in Redis's protocol."""
    parts = [b"*%d\r\n" % len(command)]
    for argument in command:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


pack: Callable[[Any], bytes] = pack_in_python
with contextlib.suppress(ImportError):
    from hiredis import pack_command as pack
