"""How a tail follows an app's stream: what to send, and what the answers mean. Knows no connection.

The position is always an id, never ``$``: what comes between two reads is not missed. Each
read also looks whether something can have been missed, and whether the server is the primary.
"""

import math
from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from backchannel_logout.checker import RevocationChecker
from backchannel_logout.contract.event import Event, MalformedEvent, UnknownEvent, stream_id
from backchannel_logout.contract.keys import AppKeys
from backchannel_logout.near.cache import NearCache
from backchannel_logout.redis.connection import Command

MAX_EVENTS = 500
"""Read at once: some milliseconds of the event loop's time."""

Answers = Sequence[Any]

START = "0-0"
"""Before the first entry of a stream."""


class NotThePrimary(RedisError):
    """The server is a replica, now or again: what it says may be old."""


class EventReader:
    """One app's stream, read into a `NearCache`."""

    def __init__(self, keys: AppKeys, reading: RevocationChecker, cache: NearCache) -> None:
        self._keys = keys
        self._reading = reading
        self._cache = cache
        self.position = START
        """The id of the last entry that the cache has dealt with."""
        self._meta = reading.meta  # what holds for what is kept

    def first(self) -> list[Command]:
        """What to send on a new connection."""
        return [
            ("XREVRANGE", self._keys.events, "+", "-", "COUNT", 1),
            *self._reading.meta_commands,
            ("ROLE",),
        ]

    def begin(self, answers: Answers) -> None:
        """Take the answers to `first`: what has been so far, is asked for.

        Raises what Redis answered, `NotThePrimary`, or `GuardMisconfigured`.
        """
        newest, *meta, role = _all_good(answers)
        _see_that_it_is_primary(role)
        self._reading.read_meta(*meta)
        self._meta = self._reading.meta
        self.position = _newest(newest)

    def next(self, wait: float) -> list[Command]:
        """What to send next; Redis waits so many seconds for an event, 0 for not at all.

        The order counts: what was trimmed before the read is gone when the oldest entry is looked
        at.
        """
        events = self._keys.events
        # BLOCK 0 would wait for ever.
        block: Command = ("BLOCK", math.ceil(wait * 1000)) if wait > 0 else ()
        return [
            ("XREAD", "COUNT", MAX_EVENTS, *block, "STREAMS", events, self.position),
            ("XRANGE", events, "-", "+", "COUNT", 1),
            ("XREVRANGE", events, "+", "-", "COUNT", 1),
            *self._reading.meta_commands,
            ("ROLE",),
        ]

    def take(self, answers: Answers, known_at: float) -> bool:
        """Take the answers to `next`. True: there is more, read on at once.

        ``known_at``: they hold all that the primary knew then, if there is no more.

        Raises as `begin` does.
        """
        read, first, last, *meta, role = _all_good(answers)
        _see_that_it_is_primary(role)
        self._reading.read_meta(*meta)
        # Not "was another before": a question may have read it first.
        if self._reading.meta != self._meta:
            self._meta = self._reading.meta
            self._cache.clear()
        entries = _entries(read)
        oldest, newest = _newest(first), _newest(last)
        if stream_id(newest) < stream_id(self.position):
            # Emptied, or restored: what was logged out since is told under lower ids, or not.
            self._cache.clear()
            self.position = newest
            self._cache.contact(known_at)
            return False
        if entries and stream_id(oldest) > stream_id(self.position):
            self._cache.clear()  # trimmed: something may have stood in between
        if entries:
            self._apply(entries)
            self.position = _text(entries[-1][0])
        if len(entries) >= MAX_EVENTS:
            return True
        self._cache.contact(known_at)
        return False

    def _apply(self, entries: Sequence[tuple[Any, Any]]) -> None:
        try:
            self._cache.apply([Event.from_fields(fields) for _, fields in entries])
        except (UnknownEvent, MalformedEvent):
            self._cache.clear()  # whom it names nobody knows


def _all_good(answers: Answers) -> Answers:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _see_that_it_is_primary(role: Any) -> None:
    if _text(role[0]) != "master":
        raise NotThePrimary("the server is not the primary")


def _newest(entries: Sequence[Any] | None) -> str:
    return _text(entries[0][0]) if entries else START


def _entries(read: Any) -> Sequence[tuple[Any, Any]]:
    """The entries of one stream, as the library gives them (RESP2, RESP3)."""
    if not read:
        return ()
    if isinstance(read, dict):
        (found,) = read.values()
        return found[0] if found and isinstance(found[0], list) else found
    return read[0][1]  # type: ignore[no-any-return]


def _text(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
