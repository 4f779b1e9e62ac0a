"""One reader for all feeds of a process: it reads the streams that anybody follows, twice a second.

It never waits in Redis, which would wake it for each logout before it answers the receiver.
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
"""Seconds between two looks."""

# Between two feeds, as a part of the pause.
_STAGGER = 1 / 100

# Of a feed that is slower than its streams. It reads what is dropped again for itself.
_MAX_QUEUED = 2000


class FeedSubscription:
    """What the reader has found for one feed. ``keys`` are the streams that it follows, by name."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self.keys = keys
        self.overflowed = False
        self._looks: deque[Poll] = deque()
        self._held = 0
        self._faults: Mapping[str, str] = {}
        self._woken = asyncio.Event()

    def push(self, look: Poll) -> bool:
        """Keep what is new of its streams for `next`. False where nothing is."""
        new = {name: one for name, one in look.new.items() if name in self.keys}
        faults = {name: word for name, word in look.faults.items() if name in self.keys}
        if not new and faults == self._faults:
            return False
        self._faults = faults
        self._held += sum(len(one.entries) for one in new.values())
        if self._held > _MAX_QUEUED:
            self._looks.clear()
            self._held, self.overflowed = 0, True
            new = {}
        self._looks.append(Poll(look.began, new, faults, look.full))
        self._woken.set()
        return True

    async def next(self, within: float | None = None) -> Poll | None:
        """The next look that has anything for it; None where there is none in so many seconds."""
        if not self._looks:
            self._woken.clear()
            try:
                async with asyncio.timeout(within):
                    await self._woken.wait()
            except TimeoutError:
                return None
        look = self._looks.popleft()
        self._held -= sum(len(one.entries) for one in look.new.values())
        return look


class FeedReader:
    """Reads while anybody follows. ``fewest``: see `StreamPositions`."""

    def __init__(self, reading: AppReader, *, fewest: int, pause: float = PAUSE) -> None:
        self._reading = reading
        self._positions = StreamPositions(reading, {}, fewest=fewest)
        self._followers: list[FeedSubscription] = []
        self._task: asyncio.Task[None] | None = None
        self.pause = pause

    @property
    def at(self) -> Mapping[str, str]:
        """How far it has read the streams that are followed; see `StreamPositions`."""
        return self._positions.at

    def join(self, keys: Mapping[str, str]) -> FeedSubscription:
        """Follow these streams until `leave`; the first to come begins the reading."""
        follower = FeedSubscription(keys)
        self._followers.append(follower)
        if self._task is None:
            self._task = asyncio.create_task(self._read())
        return follower

    def leave(self, follower: FeedSubscription) -> None:
        """The last to go ends the reading."""
        self._followers.remove(follower)
        if not self._followers and self._task is not None:
            self._task.cancel()
            self._task = None
            # Whoever comes next begins where the streams end then.
            self._positions.follow({})

    async def breathe(self, faults: bool) -> None:
        """Pause between two looks; after a fault not in step with others, and with a look at which
        server is the primary now."""
        if faults:
            try:
                with contextlib.suppress(*EXCHANGE_FAULTS):
                    async with asyncio.timeout(self.pause):
                        await self._reading.link.look_up()
            except Exception:
                log.exception("feed", outcome="failed", error="internal")
        await asyncio.sleep(self.pause * (0.8 + random.random() * (1.2 if faults else 0.4)))  # noqa: S311

    async def _read(self) -> None:
        """Never ends by itself."""
        while True:
            keys = {name: key for one in self._followers for name, key in one.keys.items()}
            self._positions.follow(keys)
            try:
                look = await self._positions.look()
            except Exception:
                log.exception("feed", outcome="failed", error="internal")
                await self.breathe(faults=True)
                continue
            for follower in list(self._followers):
                if follower.push(look):
                    # One after the other, with requests in between: what thirty feeds do with a
                    # burst takes them some ten milliseconds.
                    await asyncio.sleep(self.pause * _STAGGER)
            if look.full:
                await asyncio.sleep(0)
            else:
                await self.breathe(bool(look.faults))
