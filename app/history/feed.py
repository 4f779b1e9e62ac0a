"""What comes from now on: the events of all apps, and refusals. It can be resumed.

Asks twice a second and never waits in Redis, which would wake this reader, too, for each logout
before it answers the receiver.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from app.publish.redis_fault import EXCHANGE_FAULTS
from backchannel_logout import AppKeys
from backchannel_logout.event import stream_id

from .facts import Told
from .notes import REFUSED, Refusal
from .reading import Reading, Unreadable, needed
from .streams import PAGE, Entry, entries, seconds_of

PAUSE = 0.5
"""Seconds between two looks."""

REFUSALS = "!refusals"
"""The name of the refusals in a cursor: no app can have it."""

# No stream's entries are too old so soon; a reader that was kept waiting for longer looks closely.
_LATELY_SECONDS = 5.0

# The highest number within a millisecond: no entry has it, but a time that somebody begins from.
_LAST = 2**64 - 1

# Of a stream that is empty, and of one that somebody has emptied.
_BEGINNING = "0-0"


class Cursor(dict[str, str]):
    """How far each stream has been read: its last id, by the app's name, or `REFUSALS`."""

    def reaches(self, name: str, entry_id: str) -> bool:
        """Whether the entry is not after it."""
        return name in self and stream_id(entry_id) <= stream_id(self[name])

    def __str__(self) -> str:
        """One line of ASCII without blanks, for a ``Last-Event-ID``."""
        return json.dumps(self, separators=(",", ":"))

    @classmethod
    def parse(cls, line: str) -> Self:
        """What `__str__` gave. Raises ``ValueError`` for anything else."""
        try:
            found = json.loads(line)
        except RecursionError:
            raise ValueError("not a cursor") from None
        if not isinstance(found, dict):
            raise ValueError("not a cursor")  # noqa: TRY004  whoever parses expects one error
        for position in found.values():
            stream_id(position if isinstance(position, str) else "")
        return cls(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """Entries of this app (`REFUSALS`: of the refusals) may be missing: its stream was trimmed past
    the position, or Redis has lost data."""

    app: str


Item = Told | Refusal | Missed

OnAway = Callable[[Mapping[str, str]], None]
"""Is told which streams can not be read, and the word for each, whenever that changes."""


class Feed:
    """An iterator over what comes; ``cursor`` is how far the last item that was handed out reaches.

    ``apps`` are followed, and with ``refusals`` those; from ``cursor`` where it knows the stream,
    else from ``since`` (epoch seconds), else from now. While a stream can not be read the others
    are handed out, and it is tried again; ``on_away`` is told. A stream that is cut for its length
    has ``fewest`` entries left, or more.
    """

    def __init__(
        self,
        reading: Reading,
        apps: Sequence[str],
        *,
        refusals: bool = True,
        cursor: Mapping[str, str] | None = None,
        since: float | None = None,
        on_away: OnAway = lambda _: None,
        pause: float = PAUSE,
        fewest: int = PAGE,
    ) -> None:
        self._reading = reading
        self._streams = {app: AppKeys(app).events for app in apps}
        if refusals:
            self._streams[REFUSALS] = REFUSED
        begins = {name: at for name, at in (cursor or {}).items() if name in self._streams}
        if since is not None:
            # Entries of that very millisecond belong to it: ids begin with 0.
            start = f"{max(0, int(since * 1000) - 1)}-{_LAST}"
            begins = dict.fromkeys(self._streams, start) | begins
        self._unchecked = set(begins)
        self.cursor = Cursor(begins)
        self._on_away = on_away
        self._pause = pause
        self._fewest = min(PAGE, fewest)
        self._looked_at: dict[str, float] = {}
        self._away: set[str] = set()

    async def __aiter__(self) -> AsyncIterator[Item]:
        """Never ends by itself."""
        while True:
            full = False
            for app, found in await self._looked():
                if isinstance(found, Missed):
                    yield found
                    continue
                entry_id, fields = found
                self.cursor[app] = entry_id
                full = True
                if app == REFUSALS:
                    yield Refusal.from_fields(entry_id, fields)
                else:
                    yield Told.read(app, entry_id, fields)
            if not full:
                await asyncio.sleep(self._pause)

    async def _looked(self) -> list[tuple[str, Entry | Missed]]:
        """What is new in all streams, in the order of time; nothing while Redis is away."""
        answers = await asyncio.gather(*map(self._new_or_fault, self._streams))
        faults = {
            name: str(answer)
            for name, answer in zip(self._streams, answers, strict=True)
            if isinstance(answer, Unreadable)
        }
        if faults.keys() != self._away:
            self._away = set(faults)
            self._on_away(faults)
        if faults:
            # What comes after an outage may be another Redis, or an emptied one.
            self._unchecked |= faults.keys() & self.cursor.keys()
            with contextlib.suppress(*EXCHANGE_FAULTS):
                async with asyncio.timeout(self._pause):
                    await self._reading.link.look_up()
        found = [one for one in answers if not isinstance(one, Unreadable)]
        return sorted((one for of_stream in found for one in of_stream), key=_time)

    async def _new_or_fault(self, name: str) -> "list[tuple[str, Entry | Missed]] | Unreadable":
        """One stream that can not be read leaves the others alone."""
        try:
            return await self._new(name)
        except Unreadable as fault:
            return fault

    async def _new(self, name: str) -> list[tuple[str, Entry | Missed]]:
        """What is new in one stream."""
        key, missed = self._streams[name], False
        if name not in self.cursor:
            (newest,) = await self._ask(name, [("XREVRANGE", key, "+", "-", "COUNT", 1)])
            self.cursor[name] = newest[0][0] if newest else _BEGINNING
            return []
        if name in self._unchecked:
            missed = await self._is_broken(name, key)
            self._unchecked.discard(name)
        # The oldest is asked for behind the page: what is trimmed in between may have been in it.
        at = self.cursor[name]
        found, oldest = await self._ask(
            name,
            [
                ("XRANGE", key, f"({at}", "+", "COUNT", PAGE),
                ("XRANGE", key, "-", "+", "COUNT", 1),
            ],
        )
        # Of what has come since a moment ago nothing is too old: only the length can have cut it.
        # Else the entry that was read before a long silence has gone for its age.
        now = time.monotonic()
        lately = now - self._looked_at.get(name, now) < _LATELY_SECONDS
        self._looked_at[name] = now
        if found and not missed and (len(found) >= self._fewest or not lately):
            missed = _is_trimmed(at, oldest)
        return [*([(name, Missed(app=name))] if missed else []), *((name, one) for one in found)]

    async def _is_broken(self, name: str, key: str) -> bool:
        """Whether entries may be missing after our position, which is put right."""
        oldest, newest = await self._ask(
            name,
            [
                ("XRANGE", key, "-", "+", "COUNT", 1),
                ("XREVRANGE", key, "+", "-", "COUNT", 1),
            ],
        )
        at = stream_id(self.cursor[name])
        if at[1] == _LAST:
            return False
        last = stream_id(newest[0][0]) if newest else (0, 0)
        if last < at:
            self.cursor[name] = newest[0][0] if newest else _BEGINNING
            return True
        return _is_trimmed(self.cursor[name], oldest)

    async def _ask(self, name: str, commands: Sequence[tuple[str | int, ...]]) -> list[list[Entry]]:
        if name == REFUSALS:
            answers = await self._reading.of_key(REFUSED, commands)
        else:
            answers = await self._reading.of_app(name, commands)
        return [entries(needed(answer)) for answer in answers]


async def ends(reading: Reading, apps: Sequence[str], *, refusals: bool) -> Cursor:
    """Where each stream ends now: what comes from here on is after it. Raises `Unreadable`."""

    async def end(name: str) -> str:
        key = REFUSED if name == REFUSALS else AppKeys(name).events
        command = ("XREVRANGE", key, "+", "-", "COUNT", 1)
        (answer,) = await reading.of_key(key, [command])
        newest = entries(needed(answer))
        return newest[0][0] if newest else _BEGINNING

    names = [*apps, *([REFUSALS] if refusals else [])]
    return Cursor(zip(names, await asyncio.gather(*map(end, names)), strict=True))


def _is_trimmed(position: str, oldest: Sequence[Entry]) -> bool:
    """Whether entries after this position may have been trimmed."""
    at = stream_id(position)
    if at == (0, 0) or at[1] == _LAST:
        return False
    return bool(oldest) and stream_id(oldest[0][0]) > at


def _time(found: tuple[str, Entry | Missed]) -> float:
    """When it was written; what may be missing comes first."""
    return 0.0 if isinstance(found[1], Missed) else seconds_of(found[1][0])
