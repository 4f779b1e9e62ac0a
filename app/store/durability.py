"""The level of durability that each write waits for: memory, replicas, or fsync.

``WAIT`` and ``WAITAOF`` count what their own connection has written. A script that changed nothing
writes nothing, so a meaningless write to each app precedes the wait; one that succeeds is enough.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from app.config.types import Durability
from app.store.command import packed
from app.store.errors import LevelNotReached, fault_of, level_fault
from app.store.topology import REDIS_SECONDS
from backchannel_logout.contract.keys import VERSION

# The share of a round trip for WAIT and WAITAOF; the rest is for the network.
_LEVEL_SECONDS = REDIS_SECONDS * 0.8


class DurabilityWait:
    """Appends the wait to a round trip, and reads its reply."""

    def __init__(self, durability: Durability) -> None:
        self.level = durability.level
        self._replicas = durability.replicas
        self.waits = durability.level != "memory"

    def commands(self, meta_keys: Iterable[str]) -> list[bytes]:
        """What follows the scripts of a round trip. ``meta_keys`` belong to apps on its server."""
        meaningless = [packed("HSET", key, "v", str(VERSION)) for key in meta_keys]
        level_ms = int(_LEVEL_SECONDS * 1000)
        if self.level == "fsync":
            return [*meaningless, packed("WAITAOF", 1, 0, level_ms)]
        return [*meaningless, packed("WAIT", self._replicas, level_ms)]

    def applied(self, replies: Sequence[Any], wait_replies: Sequence[Any]) -> list[Any]:
        """The scripts' replies; where the level was missed, `LevelNotReached` for each success."""
        missed = self._missed(wait_replies[:-1], wait_replies[-1])
        if missed is None:
            return list(replies)
        return [
            LevelNotReached(missed, reply) if isinstance(reply, int) else reply for reply in replies
        ]

    def _missed(self, meaningless: Sequence[object], waited: object) -> str | None:
        """Why the level was not reached."""
        refused = [reply for reply in meaningless if isinstance(reply, RedisError)]
        if len(refused) == len(meaningless):
            return str(fault_of(refused[0]))
        if isinstance(waited, RedisError):
            return level_fault(waited)
        reached = waited[0] if isinstance(waited, list) else waited
        wanted = 1 if self.level == "fsync" else self._replicas
        if isinstance(reached, int) and reached >= wanted:
            return None
        return f"{self.level}_{reached}_of_{wanted}"

    async def fault(self, server: Redis) -> str | None:
        """Why no write to this server can reach the level; None if one may.

        Raises the library's errors if the server does not reply.
        """
        if self.level != "fsync":
            return None  # replicas come and go: each write finds out
        try:
            await server.execute_command("WAITAOF", 1, 0, 1)
        except ResponseError as error:
            return level_fault(error)
        return None
