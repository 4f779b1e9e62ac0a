"""How a tail reads an app's stream: what to send, and what the replies mean. Opens no connection.

The position is always an id, never ``$``, so nothing between two reads is missed. Each read also
checks whether something can have been missed, and whether the server is the primary.
"""

import math
from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from backchannel_logout.checker import RevocationChecker
from backchannel_logout.contract.event import Event, MalformedEvent, UnknownEvent, stream_id
from backchannel_logout.contract.keys import AppKeys
from backchannel_logout.near.cache import NearCache
from backchannel_logout.redis.pipeline import Command
from backchannel_logout.redis.primary import without_errors

MAX_EVENTS = 500
"""In one read: some milliseconds of the event loop."""

START = "0-0"
"""The position before the first entry of a stream."""


class NotThePrimary(RedisError):
    """The server is a replica, now or again: its data may be old."""


class EventReader:
    """Reads one app's stream into a `NearCache`. Replies are as `Primary` returns them."""

    def __init__(self, keys: AppKeys, checker: RevocationChecker, cache: NearCache) -> None:
        self._keys = keys
        self._meta = checker.meta
        self._cache = cache
        self.position = START
        """The id of the last entry that the cache has applied."""
        self._cached_under = self._meta.values

    def first(self) -> list[Command]:
        """What to send on a new connection."""
        return [
            ("XREVRANGE", self._keys.events, "+", "-", "COUNT", 1),
            *self._meta.commands,
            ("ROLE",),
        ]

    def begin(self, replies: list[Any]) -> None:
        """Process the replies to `first`: the cache begins after the newest entry.

        Raises the error reply, `NotThePrimary`, or `GuardMisconfigured`.
        """
        newest, *meta, role = without_errors(replies)
        _check_role(role)
        self._meta.read(*meta)
        self._cached_under = self._meta.values
        self.position = _id_of(newest)

    def next(self, wait: float) -> list[Command]:
        """What to send next; Redis waits up to ``wait`` seconds for an event, 0: not at all.

        The order matters: an entry that was trimmed before the read is gone when the oldest entry
        is read.
        """
        events = self._keys.events
        # BLOCK 0 would wait forever.
        block: Command = ("BLOCK", math.ceil(wait * 1000)) if wait > 0 else ()
        return [
            ("XREAD", "COUNT", MAX_EVENTS, *block, "STREAMS", events, self.position),
            ("XRANGE", events, "-", "+", "COUNT", 1),
            ("XREVRANGE", events, "+", "-", "COUNT", 1),
            *self._meta.commands,
            ("ROLE",),
        ]

    def process(self, replies: list[Any], known_at: float) -> bool:
        """Process the replies to `next`. True: there are more events, read on at once.

        ``known_at``: unless there are more, the replies hold everything that the primary had then.
        Raises as `begin` does.
        """
        read, first, last, *meta, role = without_errors(replies)
        _check_role(role)
        self._meta.read(*meta)
        # Not compared with the previous read: a query may have read the new values first.
        if self._meta.values != self._cached_under:
            self._cached_under = self._meta.values
            self._cache.clear()
        entries = read[0][1] if read else []
        oldest, newest = _id_of(first), _id_of(last)
        if stream_id(newest) < stream_id(self.position):
            # Emptied or restored: logouts since then have lower ids, or are lost.
            self._cache.clear()
            self.position = newest
            self._cache.contact(known_at)
            return False
        if entries and stream_id(oldest) > stream_id(self.position):
            self._cache.clear()  # trimmed: entries may be missing in between
        if entries:
            self._apply(entries)
            self.position = entries[-1][0].decode()
        if len(entries) >= MAX_EVENTS:
            return True
        self._cache.contact(known_at)
        return False

    def _apply(self, entries: Sequence[tuple[bytes, Sequence[bytes]]]) -> None:
        try:
            self._cache.apply([Event.from_reply(fields) for _, fields in entries])
        except (UnknownEvent, MalformedEvent):
            self._cache.clear()  # it may name any session


def _check_role(role: Sequence[Any]) -> None:
    if role[0] != b"master":
        raise NotThePrimary("the server is not the primary")


def _id_of(entries: Sequence[Any]) -> str:
    return entries[0][0].decode() if entries else START
