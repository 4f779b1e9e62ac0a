"""What is new in many streams, in few round trips: one for each server, as a rule."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.history.app_reader import AppReader, Command, Unreadable, required
from app.history.audit_stream import RefusalEntry
from app.history.feed.cursor import LAST, LAST_READ, REFUSALS, Cursor
from app.history.records import DeliveredEvent
from app.history.streams import PAGE, Entry, parse_raw_entries
from backchannel_logout.contract.event import stream_id

# Of all streams together in one look.
_MAX_ENTRIES = 5000
_MIN_COUNT = 20

# Entries whose reading as events holds the event loop for some milliseconds.
_DECODED_PER_TURN = 100

# No stream's entries are too old so soon; a reader that was kept waiting for longer looks closely.
_RECENT_SECONDS = 5.0

# Of a stream that is empty, and of one that somebody has emptied.
BEGINNING = "0-0"

FeedItem = DeliveredEvent | RefusalEntry

PolledEntry = tuple[tuple[int, int], str, FeedItem]
"""An entry: its id, as numbers too, and what it says."""


@dataclass(slots=True)
class NewEntries:
    """What is new in one stream: all entries after ``after``, or a page of them."""

    after: str
    entries: list[PolledEntry] = field(default_factory=list)
    missed: bool = False
    """Entries before these may be missing: the stream was trimmed past the position."""
    lost: bool = False
    """Redis has lost data: what was read before is not there, and ``after`` is its end now."""


@dataclass(slots=True)
class Poll:
    """What one look has found, by the stream's name, and which could not be read.

    ``began`` is epoch seconds by our clock; ``full``: more may be there already.
    """

    began: float
    new: dict[str, NewEntries]
    faults: Mapping[str, str]
    full: bool = False


class StreamPositions:
    """How far each of some streams has been read. ``keys`` are by name; see `Cursor`.

    A stream that is cut for its length has ``fewest`` entries left, or more. ``hold``: the
    positions are of this moment, and are not checked.
    """

    def __init__(
        self,
        reading: AppReader,
        keys: Mapping[str, str],
        at: Mapping[str, str] | None = None,
        *,
        fewest: int = PAGE,
        hold: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reading = reading
        self._clock = clock
        self._fewest = fewest
        self.keys = dict(keys)
        self.at = dict(at or {})
        self._unchecked = set() if hold else set(self.at)
        self._looked_at: dict[str, float] = {}

    def follow(self, keys: Mapping[str, str]) -> None:
        """Read these from now on, and no others."""
        for gone in self.keys.keys() - keys.keys():
            self.at.pop(gone, None)
            self._looked_at.pop(gone, None)
            self._unchecked.discard(gone)
        self.keys = dict(keys)

    async def look(self) -> Poll:
        """What is new since the last look. A stream that cannot be read leaves the others alone.

        One that has no position is read from its end on.
        """
        look = Poll(self._clock(), {}, {})
        faults = await self._find_ends(look.new)
        names = [name for name in self.keys if name not in faults]
        await self._read_on([name for name in names if name not in look.new], look, faults)
        # What comes after an outage may be another Redis, or an emptied one.
        self._unchecked |= faults.keys() & self.at.keys()
        look.faults = faults
        return look

    async def _find_ends(self, new: dict[str, NewEntries]) -> dict[str, str]:
        """Begin the streams that have no position, and look whether the others' still hold."""
        unknown = [name for name in self.keys if name not in self.at]
        unchecked = [name for name in self.keys if name in self._unchecked]
        asked: dict[str, list[Command]] = {
            name: [("XREVRANGE", self.keys[name], "+", "-", "COUNT", 1)]
            for name in [*unknown, *unchecked]
        }
        for name in unchecked:
            key = self.keys[name]
            asked[name] += [("XRANGE", key, "-", "+", "COUNT", 1), ("XLEN", key)]
        found, faults = await self._ask(asked)
        for name, (newest, *rest) in found.items():
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
            elif _is_trimmed(self.at[name], rest[0], whole=rest[1] < self._fewest):
                new[name] = NewEntries(after=self.at[name], missed=True)
        return faults

    async def _read_on(self, names: list[str], look: Poll, faults: dict[str, str]) -> None:
        most = max(_MIN_COUNT, min(PAGE, _MAX_ENTRIES // max(1, len(names))))
        missing = [name for name, new in look.new.items() if new.missed]
        found, away = await self._ask(
            {
                name: [("XRANGE", self.keys[name], f"({self.at[name]}", "+", "COUNT", most)]
                for name in [*names, *missing]
            }
        )
        faults |= away
        pages = {name: page for name, (page,) in found.items() if page}
        now = time.monotonic()
        # Of what has come since a moment ago nothing is too old: only the length can have cut it.
        # Else the entry that was read before a long silence has gone for its age.
        cut = [
            name
            for name, page in pages.items()
            if name not in missing
            and (
                len(page) >= min(most, self._fewest)
                or now - self._looked_at.get(name, now) >= _RECENT_SECONDS
            )
        ]
        self._looked_at |= dict.fromkeys(found, now)
        # The oldest is asked for behind the page: what is trimmed in between may have been in it.
        oldest, away = await self._ask(
            {name: [("XRANGE", self.keys[name], "-", "+", "COUNT", 1)] for name in cut}
        )
        for name in away:
            del pages[name]  # read again, and then closely
        faults |= away
        for name, page in pages.items():
            new = look.new.setdefault(name, NewEntries(after=self.at[name]))
            if name in oldest:
                new.missed = _is_trimmed(new.after, oldest[name][0], whole=False)
            new.entries = await _decode(name, page)
            self.at[name] = page[-1][0]
            look.full = look.full or len(page) >= most

    async def _ask(
        self, asked: Mapping[str, list[Command]]
    ) -> tuple[dict[str, list[Any]], dict[str, str]]:
        """The entries in the answers for each stream, and why others have none."""
        if not asked:
            return {}, {}
        answered = await self._reading.query_keys({self.keys[name]: asked[name] for name in asked})
        found: dict[str, list[Any]] = {}
        faults: dict[str, str] = {}
        for name in asked:
            answers = answered[self.keys[name]]
            try:
                if isinstance(answers, Unreadable):
                    raise answers
                found[name] = [
                    one if isinstance(one, int) else parse_raw_entries(one)
                    for one in map(required, answers)
                ]
            except Unreadable as fault:
                faults[name] = str(fault)
        return found, faults


async def _decode(name: str, page: Iterable[Entry]) -> list[PolledEntry]:
    found: list[PolledEntry] = []
    for entry_id, fields in page:
        item: FeedItem
        if name == REFUSALS:
            item = RefusalEntry.from_fields(entry_id, fields)
        else:
            item = DeliveredEvent.read(name, entry_id, fields)
        found.append((stream_id(entry_id), entry_id, item))
        if len(found) % _DECODED_PER_TURN == 0:
            await asyncio.sleep(0)
    return found


def _is_trimmed(position: str, oldest: list[Entry], *, whole: bool) -> bool:
    """Whether entries after this position may have been trimmed. ``whole``: the stream has fewer
    entries than one that is cut for its length."""
    at = stream_id(position)
    if at == (0, 0) or at[1] == LAST or (at[1] == LAST_READ and whole):
        return False
    return bool(oldest) and stream_id(oldest[0][0]) > at


def cursor_at_end(found: Mapping[str, "list[Any] | Unreadable"], keys: Mapping[str, str]) -> Cursor:
    """Where each stream ends, from an ``XREVRANGE`` of each. Raises `Unreadable`."""
    cursor = Cursor()
    for name, key in keys.items():
        answers = found[key]
        if isinstance(answers, Unreadable):
            raise answers
        newest = parse_raw_entries(required(answers[0]))
        cursor.advance(name, newest[0][0] if newest else BEGINNING)
    return cursor
