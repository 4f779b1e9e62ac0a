"""Round trips that follow each other on one connection per server."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from backchannel_logout.redis.pipeline import Pipeline


class CommandPipeline:
    """Keeps the connection of the previous round trip for the next one, for one task at a time.

    Taking it from the pool each time costs a fortieth of a logout (docs/performance.md).
    `command_pipeline` makes one.
    """

    def __init__(self) -> None:
        self._kept: dict[Redis, Pipeline] = {}

    async def exchange(
        self, server: Redis, commands: Sequence[bytes], *, within: float
    ) -> list[Any]:
        """Send packed commands and return the reply to each; an error is a reply.

        Raises redis-py's exception when there is no connection or it breaks, and ``TimeoutError``
        after ``within`` seconds. Then each command may or may not have been executed.
        """
        until = asyncio.get_running_loop().time() + within
        pipeline = self._kept.pop(server, None)
        if pipeline is not None and not pipeline.is_open:
            await pipeline.close()
            pipeline = None
        if pipeline is None:
            async with asyncio.timeout_at(until):
                pipeline = await Pipeline.acquire(server.connection_pool)
        replies = await pipeline.exchange(commands, until=until)
        self._kept[server] = pipeline
        return replies

    async def give_back(self) -> None:
        """Return the connections to their pools."""
        while self._kept:
            await self._kept.popitem()[1].release()


@asynccontextmanager
async def command_pipeline() -> AsyncIterator[CommandPipeline]:
    """A `CommandPipeline`, whose connections go back to their pools at the end."""
    pipeline = CommandPipeline()
    try:
        yield pipeline
    finally:
        await pipeline.give_back()
