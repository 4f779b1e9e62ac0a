"""When a reader of the stream reports how far it is: see `readers` for the form."""

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
    as_text,
    farewell,
    process_name,
    stale_readers,
)
from backchannel_logout.redis.connection import Command

log = logging.getLogger("backchannel_logout")

# A report is a write; one for each event would be too many.
_PAUSE = 2.0


class Reports:
    """What one reader of the hash ``key`` writes there, beside its reads."""

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
        """How many there are, about; None: nobody can say."""
        # Not all at once after a rollout.
        self._tidy_at = clock() + random.uniform(0, FORGOTTEN_SECONDS)  # noqa: S311

    def due(self, position: str) -> list[Command]:
        """What to send beside a read: how many readers there are, and now and then a report."""
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
        if now >= self._tidy_at:
            self._tidy_at = now + FORGOTTEN_SECONDS
            commands.append(("HGETALL", self.key))
        return commands

    def answered(self, answers: Sequence[Any]) -> list[Command]:
        """What to send after the answers to `due`: the removal of who has long been silent."""
        refused = next((one for one in answers if isinstance(one, RedisError)), None)
        if isinstance(refused, NoPermissionError):
            self._allowed = False
            log.warning("how far this process has read can not be reported: %s", refused)
        self.readers = answers[0] if answers and refused is None else None
        if len(answers) < 4 or not isinstance(answers[3], dict):
            return []
        readers = {
            name: Reader.from_json(name, text)
            for name, text in ((as_text(name), text) for name, text in answers[3].items())
        }
        gone = stale_readers(readers, self._clock())
        return [("HDEL", self.key, *gone)] if gone else []

    def last(self) -> list[Command]:
        """What to send at a clean end."""
        return farewell(self.key, self.name, self._clock()) if self._allowed else []

    def leave(self) -> list[Command]:
        """`last`, and nothing is to be sent after it."""
        commands, self._allowed = self.last(), False
        return commands
