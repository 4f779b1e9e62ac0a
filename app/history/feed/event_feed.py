"""What comes from now on: the events of all apps, and refusals. It can be resumed.

All feeds of a process share one reader (`live`). A feed reads for itself only what that one has
read before the feed came, or what the feed was too slow for.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from app.history.app_reader import AppReader
from app.history.audit_stream import REFUSED
from app.history.feed.cursor import REFUSALS, Cursor, just_before
from app.history.feed.feed_reader import FeedReader
from app.history.feed.stream_positions import FeedItem, Poll, StreamPositions
from app.history.streams import PAGE
from backchannel_logout import AppKeys
from backchannel_logout.contract.event import stream_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """Entries of this app (`REFUSALS`: of the refusals) may be missing: its stream was trimmed past
    the position, or Redis has lost data."""

    app: str


OnUnreadable = Callable[[Mapping[str, str]], None]
"""Is told which streams can not be read, and the word for each, whenever that changes."""

PendingItem = tuple[str, str, FeedItem | None]
"""An item that is ready, with the app's name and its id; without an item the id of what is before
the entries that may be missing."""


def feed_keys(apps: Sequence[str], *, refusals: bool) -> dict[str, str]:
    """The streams' keys, by their names in a cursor."""
    keys = {app: AppKeys(app).events for app in apps}
    return keys | {REFUSALS: REFUSED} if refusals else keys


class Feed:
    """An iterator over what comes; ``cursor`` is how far the last item that was handed out reaches.

    ``apps`` are followed, and with ``refusals`` those; from ``cursor`` where it knows the stream,
    else from ``since`` (epoch seconds), else from now. While a stream can not be read the others
    are handed out, and it is tried again; ``on_away`` is told. ``fresh``: ``cursor`` is of this
    moment. ``fewest``: see `StreamPositions`.
    """

    def __init__(
        self,
        reading: AppReader,
        live: FeedReader,
        apps: Sequence[str],
        *,
        refusals: bool = True,
        cursor: Mapping[str, str] | None = None,
        since: float | None = None,
        on_away: OnUnreadable = lambda _: None,
        fewest: int = PAGE,
        fresh: bool = False,
    ) -> None:
        self._reading = reading
        self._live = live
        self._keys = feed_keys(apps, refusals=refusals)
        cursor = cursor if isinstance(cursor, Cursor) else Cursor(cursor)
        begins = cursor.begins(self._keys)
        if since is not None:
            # Entries of that very millisecond belong to it: ids begin with 0.
            begins = dict.fromkeys(self._keys, just_before(int(since * 1000))) | begins
        self.cursor = Cursor(begins, cursor.until)
        self._on_away = on_away
        self._fewest = fewest
        self._fresh = fresh
        self._away: dict[str, str] = {}
        # Streams that the shared reader is ahead of, or whose position may hold no more.
        self._behind = set() if fresh or not begins else set(self._keys)

    async def __aiter__(self) -> AsyncIterator[FeedItem | Missed]:
        """Never ends by itself."""
        async with aclosing(self.batches()) as batches:
            async for waiting in batches:
                for item in self.taken(waiting):
                    yield item

    async def batches(self) -> AsyncGenerator[list[PendingItem]]:
        """What is ready, many at once; each is for `taken`, before the next is asked for."""
        follower = self._live.join(self._keys)
        for name, position in self._live.at.items():
            if name in self._keys and name not in self.cursor:
                self.cursor.advance(name, position)
            elif name in self._keys and not self.cursor.reaches(name, position):
                self._behind.add(name)
        try:
            while True:
                if self._behind:
                    async with aclosing(self._caught_up()) as batches:
                        async for waiting in batches:
                            yield waiting
                look = await follower.next(self._live.pause if self._behind else None)
                if follower.overflowed:
                    follower.overflowed, self._behind = False, set(self._keys)
                    continue
                if look is None:
                    continue
                self._tell(look.faults)
                if waiting := list(self._sorted(look, self._behind)):
                    yield waiting
                self._settle(look)
        finally:
            self._live.leave(follower)

    def taken(self, waiting: Sequence[PendingItem]) -> Iterator[FeedItem | Missed]:
        """The items, each once the cursor reaches it."""
        for name, position, item in waiting:
            self.cursor.advance(name, position)
            yield Missed(app=name) if item is None else item

    async def _caught_up(self) -> AsyncGenerator[list[PendingItem]]:
        """Read what the shared reader has read without us, as far as it can be read."""
        names, whole = set(self._behind), self._behind == self._keys.keys()
        keys = {name: self._keys[name] for name in names}
        begins = {name: self.cursor[name] for name in names if name in self.cursor}
        positions = StreamPositions(
            self._reading, keys, begins, fewest=self._fewest, hold=self._fresh
        )
        self._fresh = False
        full = True
        while full:
            look = await positions.look()
            self._behind = set(look.faults)
            if waiting := list(self._sorted(look, self._behind)):
                yield waiting
            full = look.full
        if whole:
            self._tell(look.faults)
            self._settle(look)

    def _sorted(self, look: Poll, behind: set[str]) -> Iterator[PendingItem]:
        """What of it is new to us, in the order of time; what may be missing comes first. Notes in
        ``behind`` where the look has begun later than we have read."""
        found: list[tuple[tuple[int, int], PendingItem]] = []
        for name, new in look.new.items():
            if name in behind:
                continue
            if name not in self.cursor:
                self.cursor.advance(name, new.after)
            at, after = stream_id(self.cursor[name]), stream_id(new.after)
            if new.lost and at > after:
                yield name, new.after, None
                at = after
            elif after > at:
                self._behind.add(name)
                continue
            elif new.missed and at == after:
                yield name, new.after, None
            for when, entry_id, item in new.entries:
                if when > at:
                    found.append((when, (name, entry_id, item)))
        found.sort(key=_entry_time)
        for _, waiting in found:
            yield waiting

    def _settle(self, look: Poll) -> None:
        if not (look.full or look.faults or self._behind):
            self.cursor.settle(look.began)

    def _tell(self, faults: Mapping[str, str]) -> None:
        if faults.keys() != self._away.keys():
            self._on_away(dict(faults))
        self._away = dict(faults)


def _entry_time(found: tuple[tuple[int, int], PendingItem]) -> tuple[int, int]:
    return found[0]
