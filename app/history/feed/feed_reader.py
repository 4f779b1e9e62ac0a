"""The one reader behind all feeds of a process: polls the followed streams twice a second.

It never blocks in Redis, which would wake it for each logout before answering the receiver.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Mapping

from app.history.app_reader import AppReader
from app.history.feed.stream_positions import Poll, StreamPositions
from app.log import new_log
from app.store.errors import EXCHANGE_FAULTS

log = new_log(__name__)

PAUSE = 0.5
"""Seconds between two polls."""

# Pause between two feeds, as a fraction of ``pause``.
_STAGGER = 1 / 100

# Queued items of a slow feed. It reads dropped ones again itself.
_MAX_QUEUED = 2000


class FeedSubscription:
    """The reader's queue for one feed. ``keys`` are the streams that the feed follows, by name."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self.keys = keys
        self.overflowed = False
        self._polls: deque[Poll] = deque()
        self._queued = 0
        self._faults: Mapping[str, str] = {}
        self._woken = asyncio.Event()

    def push(self, poll: Poll) -> bool:
        """Queue what is new in its streams, for `next`. False: nothing is."""
        new = {name: new_entries for name, new_entries in poll.new.items() if name in self.keys}
        faults = {name: word for name, word in poll.faults.items() if name in self.keys}
        if not new and faults == self._faults:
            return False
        self._faults = faults
        self._queued += sum(len(new_entries.entries) for new_entries in new.values())
        if self._queued > _MAX_QUEUED:
            self._polls.clear()
            self._queued, self.overflowed = 0, True
            new = {}
        self._polls.append(Poll(poll.began, new, faults, poll.full))
        self._woken.set()
        return True

    async def next(self, within: float | None = None) -> Poll | None:
        """The next poll with news for the feed; None when there is none within so many seconds."""
        if not self._polls:
            self._woken.clear()
            try:
                async with asyncio.timeout(within):
                    await self._woken.wait()
            except TimeoutError:
                return None
        poll = self._polls.popleft()
        self._queued -= sum(len(new_entries.entries) for new_entries in poll.new.values())
        return poll


class FeedReader:
    """Reads while any feed follows. ``min_length``: see `StreamPositions`."""

    def __init__(self, reader: AppReader, *, min_length: int, pause: float = PAUSE) -> None:
        self._reader = reader
        self._positions = StreamPositions(reader, {}, min_length=min_length)
        self._followers: list[FeedSubscription] = []
        self._task: asyncio.Task[None] | None = None
        self.pause = pause

    @property
    def at(self) -> Mapping[str, str]:
        """How far it has read the followed streams; see `StreamPositions`."""
        return self._positions.at

    def join(self, keys: Mapping[str, str]) -> FeedSubscription:
        """Follow these streams until `leave`. The first feed starts the reader."""
        follower = FeedSubscription(keys)
        self._followers.append(follower)
        if self._task is None:
            self._task = asyncio.create_task(self._read())
        return follower

    def leave(self, follower: FeedSubscription) -> None:
        """Stop following. The last feed stops the reader."""
        self._followers.remove(follower)
        if not self._followers and self._task is not None:
            self._task.cancel()
            self._task = None
            # The next feed begins at the streams' end.
            self._positions.follow({})

    async def breathe(self, faults: bool) -> None:
        """Pause between two polls. After a fault, look up the primary again, and pause with more
        jitter, so that processes do not retry in step."""
        if faults:
            try:
                with contextlib.suppress(*EXCHANGE_FAULTS):
                    async with asyncio.timeout(self.pause):
                        await self._reader.link.look_up()
            except Exception:
                log.exception("feed", outcome="failed", error="internal")
        await asyncio.sleep(self.pause * (0.8 + random.random() * (1.2 if faults else 0.4)))  # noqa: S311

    async def _read(self) -> None:
        """Never ends by itself."""
        while True:
            keys = {name: key for feed in self._followers for name, key in feed.keys.items()}
            self._positions.follow(keys)
            try:
                poll = await self._positions.poll()
            except Exception:
                log.exception("feed", outcome="failed", error="internal")
                await self.breathe(faults=True)
                continue
            for follower in list(self._followers):
                if follower.push(poll):
                    # Staggered, so that requests run in between: thirty feeds take some ten
                    # milliseconds for a burst.
                    await asyncio.sleep(self.pause * _STAGGER)
            if poll.full:
                await asyncio.sleep(0)
            else:
                await self.breathe(bool(poll.faults))
