"""Polls many streams for new entries in few round trips, usually one per server."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.history.app_reader import AppReader, Command, Unreadable, required
from app.history.audit_stream import RefusalEntry
from app.history.feed.cursor import LAST, LAST_READ, REFUSALS, Cursor
from app.history.records import DeliveredEvent
from app.history.streams import PAGE, Entry, parse_raw_entries
from backchannel_logout.contract.event import stream_id

# Per poll, for all streams together; and the minimum per stream.
_MAX_ENTRIES = 5000
_MIN_COUNT = 20

# Decoding this many entries occupies the event loop for some milliseconds.
_DECODED_PER_TURN = 100

# No entry expires by age this soon. A reader that was delayed longer checks for trimming.
_RECENT_SECONDS = 5.0

# The position of an empty stream.
BEGINNING = "0-0"

FeedItem = DeliveredEvent | RefusalEntry

PolledEntry = tuple[tuple[int, int], str, FeedItem]
"""An entry: its id as numbers, its id, and the decoded item."""


@dataclass(slots=True)
class NewEntries:
    """The entries of one stream after ``after``: all, or a page of them."""

    after: str
    entries: list[PolledEntry] = field(default_factory=list)
    missed: bool = False
    """Entries before these may be missing: the stream was trimmed past the position."""
    lost: bool = False
    """Redis has lost data: entries read before are gone, and ``after`` is the end now."""


@dataclass(slots=True)
class Poll:
    """The result of one poll: new entries by stream name, and the streams that are unreadable.

    ``began`` is epoch seconds by our clock. ``full``: more entries may be waiting.
    """

    began: float
    new: dict[str, NewEntries]
    faults: Mapping[str, str]
    full: bool = False


class StreamPositions:
    """How far each stream has been read. ``keys`` are by name; see `Cursor`.

    A stream trimmed by length keeps at least ``min_length`` entries. ``hold``: the positions were
    taken just now and need no check.
    """

    def __init__(
        self,
        reader: AppReader,
        keys: Mapping[str, str],
        at: Mapping[str, str] | None = None,
        *,
        min_length: int = PAGE,
        hold: bool = False,
    ) -> None:
        self._reader = reader
        self._min_length = min_length
        self.keys = dict(keys)
        self.at = dict(at or {})
        self._unchecked = set() if hold else set(self.at)
        self._polled_at: dict[str, float] = {}

    def follow(self, keys: Mapping[str, str]) -> None:
        """Poll these streams from now on, and no others."""
        for gone in self.keys.keys() - keys.keys():
            self.at.pop(gone, None)
            self._polled_at.pop(gone, None)
            self._unchecked.discard(gone)
        self.keys = dict(keys)

    async def poll(self) -> Poll:
        """Read what is new since the last poll. An unreadable stream does not affect the others.

        A stream without a position is read from its end on.
        """
        poll = Poll(time.time(), {}, {})
        faults = await self._find_ends(poll.new)
        names = [name for name in self.keys if name not in faults]
        await self._read_on([name for name in names if name not in poll.new], poll, faults)
        # After an outage it may be another Redis, or an emptied one.
        self._unchecked |= faults.keys() & self.at.keys()
        poll.faults = faults
        return poll

    async def _find_ends(self, new: dict[str, NewEntries]) -> dict[str, str]:
        """Position new streams at their end, and check that unchecked positions still exist."""
        unknown = [name for name in self.keys if name not in self.at]
        unchecked = [name for name in self.keys if name in self._unchecked]
        commands: dict[str, list[Command]] = {
            name: [("XREVRANGE", self.keys[name], "+", "-", "COUNT", 1)]
            for name in [*unknown, *unchecked]
        }
        for name in unchecked:
            key = self.keys[name]
            commands[name] += [("XRANGE", key, "-", "+", "COUNT", 1), ("XLEN", key)]
        results, faults = await self._query(commands)
        for name, (newest, *rest) in results.items():
            end = newest[0][0] if newest else BEGINNING
            if not rest:
                new[name] = NewEntries(after=end)
                self.at[name] = end
                continue
            self._unchecked.discard(name)
            before = stream_id(self.at[name])
            if before[1] < LAST_READ and stream_id(end) < before:
                new[name] = NewEntries(after=end, lost=True)
                self.at[name] = end
            elif _is_trimmed(self.at[name], rest[0], complete=rest[1] < self._min_length):
                new[name] = NewEntries(after=self.at[name], missed=True)
        return faults

    async def _read_on(self, names: list[str], poll: Poll, faults: dict[str, str]) -> None:
        limit = max(_MIN_COUNT, min(PAGE, _MAX_ENTRIES // max(1, len(names))))
        missing = [name for name, new in poll.new.items() if new.missed]
        results, unreadable = await self._query(
            {
                name: [("XRANGE", self.keys[name], f"({self.at[name]}", "+", "COUNT", limit)]
                for name in [*names, *missing]
            }
        )
        faults |= unreadable
        pages = {name: page for name, (page,) in results.items() if page}
        now = time.monotonic()
        # Entries that arrived a moment ago are trimmed by length only. After a long silence, the
        # last read entry may have expired by age.
        cut = [
            name
            for name, page in pages.items()
            if name not in missing
            and (
                len(page) >= min(limit, self._min_length)
                or now - self._polled_at.get(name, now) >= _RECENT_SECONDS
            )
        ]
        self._polled_at |= dict.fromkeys(results, now)
        # Read the oldest entry after the page: entries trimmed in between may have been in it.
        oldest, unreadable = await self._query(
            {name: [("XRANGE", self.keys[name], "-", "+", "COUNT", 1)] for name in cut}
        )
        for name in unreadable:
            del pages[name]  # read again, with a check
        faults |= unreadable
        for name, page in pages.items():
            new = poll.new.setdefault(name, NewEntries(after=self.at[name]))
            if name in oldest:
                new.missed = _is_trimmed(new.after, oldest[name][0], complete=False)
            new.entries = await _decode(name, page)
            self.at[name] = page[-1][0]
            poll.full = poll.full or len(page) >= limit

    async def _query(
        self, commands: Mapping[str, list[Command]]
    ) -> tuple[dict[str, list[Any]], dict[str, str]]:
        """Each stream's entries, and the faults of the unreadable ones."""
        if not commands:
            return {}, {}
        responses = await self._reader.query_keys(
            {self.keys[name]: commands[name] for name in commands}
        )
        results: dict[str, list[Any]] = {}
        faults: dict[str, str] = {}
        for name in commands:
            response = responses[self.keys[name]]
            try:
                if isinstance(response, Unreadable):
                    raise response
                results[name] = [
                    item if isinstance(item, int) else parse_raw_entries(item)
                    for item in map(required, response)
                ]
            except Unreadable as fault:
                faults[name] = str(fault)
        return results, faults


async def _decode(name: str, page: Iterable[Entry]) -> list[PolledEntry]:
    results: list[PolledEntry] = []
    for entry_id, fields in page:
        item: FeedItem
        if name == REFUSALS:
            item = RefusalEntry.from_fields(entry_id, fields)
        else:
            item = DeliveredEvent.read(name, entry_id, fields)
        results.append((stream_id(entry_id), entry_id, item))
        if len(results) % _DECODED_PER_TURN == 0:
            await asyncio.sleep(0)
    return results


def _is_trimmed(position: str, oldest: list[Entry], *, complete: bool) -> bool:
    """Whether entries after this position may have been trimmed.

    ``complete``: the stream is shorter than one that is trimmed by length.
    """
    at = stream_id(position)
    if at == (0, 0) or at[1] == LAST or (at[1] == LAST_READ and complete):
        return False
    return bool(oldest) and stream_id(oldest[0][0]) > at


def cursor_at_end(
    results: Mapping[str, "list[Any] | Unreadable"], keys: Mapping[str, str]
) -> Cursor:
    """A cursor at the end of each stream, from its ``XREVRANGE``. Raises `Unreadable`."""
    cursor = Cursor()
    for name, key in keys.items():
        response = results[key]
        if isinstance(response, Unreadable):
            raise response
        newest = parse_raw_entries(required(response[0]))
        cursor.advance(name, newest[0][0] if newest else BEGINNING)
    return cursor
