"""A resumable feed of new events of all apps, and of refusals.

All feeds of a process share one reader (`feed_reader`). A feed reads for itself only the entries
that the shared reader had read before it joined, or that it was too slow for.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from operator import itemgetter

from app.history.app_reader import AppReader
from app.history.feed.cursor import REFUSALS, Cursor, just_before
from app.history.feed.feed_reader import FeedReader
from app.history.feed.stream_positions import FeedItem, Poll, StreamPositions
from app.history.streams import PAGE
from app.store.operator_streams import REFUSED
from backchannel_logout import AppKeys
from backchannel_logout.contract.event import stream_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """Entries of this app's stream, or of `REFUSALS`, may be missing: it was trimmed past the
    position, or Redis has lost data."""

    app: str


OnUnreadable = Callable[[Mapping[str, str]], None]
"""Called with the unreadable streams and the fault of each, whenever that set changes."""

PendingItem = tuple[str, str, FeedItem | None]
"""The stream's name, an id, and the item with this id. Without an item: entries after the id may be
missing."""


def feed_keys(apps: Sequence[str], *, refusals: bool) -> dict[str, str]:
    """The streams' Redis keys, by their names in a cursor."""
    keys = {app: AppKeys(app).events for app in apps}
    return keys | {REFUSALS: REFUSED} if refusals else keys


class Feed:
    """An iterator over new items; ``cursor`` is the position after the last delivered item.

    Follows ``apps`` and, with ``refusals``, the refusals: from ``cursor`` if it knows the stream,
    else from ``since`` (epoch seconds), else from now. An unreadable stream is retried and reported
    to ``on_unreadable``; the others continue. ``fresh``: ``cursor`` was taken just now.
    ``min_length``: see `StreamPositions`.
    """

    def __init__(
        self,
        reader: AppReader,
        live: FeedReader,
        apps: Sequence[str],
        *,
        refusals: bool = True,
        cursor: Mapping[str, str] | None = None,
        since: float | None = None,
        on_unreadable: OnUnreadable = lambda _: None,
        min_length: int = PAGE,
        fresh: bool = False,
    ) -> None:
        self._reader = reader
        self._live = live
        self._keys = feed_keys(apps, refusals=refusals)
        cursor = cursor if isinstance(cursor, Cursor) else Cursor(cursor)
        starts = cursor.starts(self._keys)
        if since is not None:
            # Inclusive: sequence numbers begin with 0.
            starts = dict.fromkeys(self._keys, just_before(int(since * 1000))) | starts
        self.cursor = Cursor(starts, cursor.until)
        self._on_unreadable = on_unreadable
        self._min_length = min_length
        self._fresh = fresh
        self._unreadable: dict[str, str] = {}
        # Streams where the shared reader is ahead, or whose position may no longer exist.
        self._behind = set() if fresh or not starts else set(self._keys)

    async def __aiter__(self) -> AsyncIterator[FeedItem | Missed]:
        """Runs until it is closed."""
        async with aclosing(self.batches()) as batches:
            async for items in batches:
                for item in self.deliver(items):
                    yield item

    async def batches(self) -> AsyncGenerator[list[PendingItem]]:
        """The items that are ready, in batches; pass each batch to `deliver` before the next."""
        follower = self._live.join(self._keys)
        for name, position in self._live.at.items():
            if name in self._keys and name not in self.cursor:
                self.cursor.advance(name, position)
            elif name in self._keys and not self.cursor.reaches(name, position):
                self._behind.add(name)
        try:
            while True:
                if self._behind:
                    async with aclosing(self._catch_up()) as batches:
                        async for items in batches:
                            yield items
                poll = await follower.next(self._live.pause if self._behind else None)
                if follower.overflowed:
                    follower.overflowed, self._behind = False, set(self._keys)
                    continue
                if poll is None:
                    continue
                self._report(poll.faults)
                if items := list(self._new_items(poll, self._behind)):
                    yield items
                self._settle(poll)
        finally:
            self._live.leave(follower)

    def deliver(self, items: Sequence[PendingItem]) -> Iterator[FeedItem | Missed]:
        """Yield the items, advancing the cursor to each."""
        for name, position, item in items:
            self.cursor.advance(name, position)
            yield Missed(app=name) if item is None else item

    async def _catch_up(self) -> AsyncGenerator[list[PendingItem]]:
        """Read what the shared reader has read already, as far as it is readable."""
        names, is_all = set(self._behind), self._behind == self._keys.keys()
        keys = {name: self._keys[name] for name in names}
        starts = {name: self.cursor[name] for name in names if name in self.cursor}
        positions = StreamPositions(
            self._reader, keys, starts, min_length=self._min_length, hold=self._fresh
        )
        self._fresh = False
        full = True
        while full:
            poll = await positions.poll()
            self._behind = set(poll.faults)
            if items := list(self._new_items(poll, self._behind)):
                yield items
            full = poll.full
        if is_all:
            self._report(poll.faults)
            self._settle(poll)

    def _new_items(self, poll: Poll, behind: set[str]) -> Iterator[PendingItem]:
        """The poll's items that this feed has not delivered, oldest first; gaps come first. Adds
        streams to ``behind`` whose poll began after this feed's position."""
        pending: list[tuple[tuple[int, int], PendingItem]] = []
        for name, new in poll.new.items():
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
                    pending.append((when, (name, entry_id, item)))
        pending.sort(key=itemgetter(0))
        for _, items in pending:
            yield items

    def _settle(self, poll: Poll) -> None:
        if not (poll.full or poll.faults or self._behind):
            self.cursor.settle(poll.began)

    def _report(self, faults: Mapping[str, str]) -> None:
        if faults.keys() != self._unreadable.keys():
            self._on_unreadable(dict(faults))
        self._unreadable = dict(faults)
