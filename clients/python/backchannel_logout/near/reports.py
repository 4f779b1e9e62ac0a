"""When a reader of the stream reports its position; `readers` defines the form."""

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.exceptions import NoPermissionError, RedisError

from backchannel_logout.contract.readers import (
    FORGOTTEN_SECONDS,
    HASH_SECONDS,
    REPORT_SECONDS,
    Reader,
    ReaderKind,
    farewell,
    process_name,
    read_hash,
    stale_readers,
)
from backchannel_logout.redis.pipeline import Command

log = logging.getLogger("backchannel_logout")

# A report is a write; one per event would be too many.
_PAUSE = 2.0


class Reports:
    """The writes of one reader to the hash ``key``, next to its reads."""

    def __init__(
        self,
        key: str,
        kind: ReaderKind,
        *,
        clock: Callable[[], float] = time.time,
        sid: Mapping[str, bool] | None = None,
    ) -> None:
        """``sid`` is read at each report: see `Reader.sid`."""
        self.key = key
        self._sid = {} if sid is None else sid
        self.name = process_name()
        self._kind = kind
        self._clock = clock
        self._position = ""
        self._at = float("-inf")
        self._allowed = True
        self.readers: int | None = None
        """About how many readers the app has; None: unknown."""
        # Spread, so that not all processes do it at once after a rollout.
        self._clean_at = clock() + random.uniform(0, FORGOTTEN_SECONDS)  # noqa: S311

    def due(self, position: str) -> list[Command]:
        """What to send with a read: the number of readers, and sometimes a report."""
        if not self._allowed:
            return []
        count: Command = ("HLEN", self.key)
        now = self._clock()
        since = now - self._at
        if since < _PAUSE or (position == self._position and since < REPORT_SECONDS):
            return [count]
        self._position, self._at = position, now
        reader = Reader(name=self.name, kind=self._kind, at=now, position=position, sid=self._sid)
        commands: list[Command] = [
            count,
            ("HSET", self.key, self.name, reader.to_json()),
            ("EXPIRE", self.key, HASH_SECONDS),
        ]
        if now >= self._clean_at:
            self._clean_at = now + FORGOTTEN_SECONDS
            commands.append(("HGETALL", self.key))
        return commands

    def process(self, replies: Sequence[Any]) -> list[Command]:
        """What to send after the replies to `due`: the removal of stale reports."""
        refused = next((reply for reply in replies if isinstance(reply, RedisError)), None)
        if isinstance(refused, NoPermissionError):
            self._allowed = False
            log.warning("the position of this process cannot be reported: %s", refused)
        self.readers = replies[0] if replies and refused is None else None
        if len(replies) < 4 or not isinstance(replies[3], list):
            return []
        stale = stale_readers(read_hash(replies[3]), self._clock())
        return [("HDEL", self.key, *stale)] if stale else []

    def last(self) -> list[Command]:
        """What to send at a clean end."""
        return [*farewell(self.key, self.name, self._clock())] if self._allowed else []

    def leave(self) -> list[Command]:
        """`last`, after which nothing may be sent."""
        commands, self._allowed = self.last(), False
        return commands
