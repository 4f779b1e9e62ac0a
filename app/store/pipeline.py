"""Many commands in one round trip, at the price of what they say.

The library's own pipeline does the same at four times the cost for each command, which was half
of a logout (docs/performance.md): it packs in Python, and sets up a deadline for each answer.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis


class CommandPipeline:
    """Round trips that follow one another, each with a server on the connection of the one before.

    To have it of the pool each time takes a fortieth of a logout (docs/performance.md). One task's
    at a time. `exchanges` makes them.
    """

    def __init__(self) -> None:
        self._taken: dict[Redis, Any] = {}

    async def exchange(
        self, server: Redis, commands: Sequence[bytes], *, within: float
    ) -> list[Any]:
        """Send packed commands and read the answer to each; an error is an answer.

        Raises what the library raises when there is no connection, or it breaks, and
        ``TimeoutError`` after so many seconds (``within``); then each command may have been
        executed or not.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + within
        connection = self._taken.get(server)
        if connection is not None and _has_ended(connection):
            del self._taken[server]
            await connection.disconnect(nowait=True)
            await server.connection_pool.release(connection)
            connection = None
        if connection is None:
            async with asyncio.timeout_at(until):
                connection = self._taken[server] = await server.connection_pool.get_connection()
        # Ends the connection, so that what waits for it fails: `asyncio.timeout` in its place takes
        # a fiftieth of a logout (docs/performance.md).
        deadline = loop.call_at(until, connection._writer.transport.abort)  # noqa: SLF001
        try:
            # Past `send_packed_command`, whose deadline is a task of its own, and which in Python
            # 3.11 can lose a cancellation (asyncio.wait_for); the pool has connected it.
            await connection._send_packed_command([b"".join(commands)])  # noqa: SLF001
            # Past `read_response` of the connection, which has a deadline for each.
            read = connection._parser.read_response  # noqa: SLF001
            return [await read() for _ in commands]
        except BaseException as error:
            # An answer that is still on the way must never be read as another command's.
            del self._taken[server]
            await connection.disconnect(nowait=True)
            await server.connection_pool.release(connection)
            if isinstance(error, Exception) and loop.time() >= until:
                raise TimeoutError from error
            raise
        finally:
            deadline.cancel()

    async def give_back(self) -> None:
        """Leave the connections to others."""
        while self._taken:
            server, connection = self._taken.popitem()
            await server.connection_pool.release(connection)


def _has_ended(connection: Any) -> bool:
    """Whether somebody has ended it since the last round trip: we, as after a failover, or its
    server."""
    return (
        not connection.is_connected or connection.should_reconnect() or connection._reader.at_eof()  # noqa: SLF001
    )


@asynccontextmanager
async def exchanges() -> AsyncIterator[CommandPipeline]:
    """`CommandPipeline`, for as long as they follow one another."""
    following = CommandPipeline()
    try:
        yield following
    finally:
        await following.give_back()
