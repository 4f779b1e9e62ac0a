"""The newest entries that match a filter: of one stream, or of many as if they were one."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from app.history.app_reader import AppReader, Command, Unreadable, required
from app.history.streams import (
    PAGE,
    Entry,
    Fields,
    RunCommands,
    newest_first,
    parse_entries,
    parse_raw_entries,
)
from backchannel_logout.contract.event import stream_id

T = TypeVar("T")

# Max entries that are looked through for matches: of one stream, and of many.
_MAX_SCANNED = 20_000
_MAX_SCANNED_IN_ALL = 100_000

# Of each of many streams at first: most have nothing among the newest of all.
_MIN_COUNT = 4


class EntryPage(list[T], Generic[T]):
    """The newest first. ``more``: what to pass as ``before`` for the older ones; None: there are
    none. ``looked``: how many entries were looked at."""

    def __init__(self, found: list[T], more: str | None = None, looked: int = 0) -> None:
        super().__init__(found)
        self.more = more
        self.looked = looked


async def newest_in_stream(
    ask: RunCommands,
    key: str,
    read: Callable[[str, Fields], T],
    lets: Callable[[T], bool],
    *,
    most: int,
    before: str,
) -> EntryPage[T]:
    """Of one stream; ``before`` is an id, or ``+``. Raises `Unreadable`."""
    found: list[tuple[str, T]] = []
    looked, last = 0, ""
    async for page in newest_first(ask, key, before=before, most=_MAX_SCANNED):
        for entry_id, fields in page:
            if lets(one := read(entry_id, fields)):
                found.append((entry_id, one))
        looked, last = looked + len(page), page[-1][0]
        if len(found) > most:
            return EntryPage([one for _, one in found[:most]], found[most - 1][0], looked)
    more = last if looked >= _MAX_SCANNED else None
    return EntryPage([one for _, one in found], more, looked)


class _StreamWalk:
    """A walk back through one of many streams."""

    def __init__(self, app: str, key: str) -> None:
        self.app, self.key = app, key
        self.waiting: deque[Entry] = deque()
        self.last = ""
        self.ended = False
        self.looked = 0

    def take(self, page: list[Entry], asked: int) -> None:
        self.waiting.extend(page)
        self.looked += len(page)
        self.ended = len(page) < asked
        if page:
            self.last = page[-1][0]


async def newest_in_streams(
    reading: AppReader,
    keys: Mapping[str, str],
    read: Callable[[str, str, Fields], T],
    lets: Callable[[T], bool],
    *,
    most: int,
    before: str,
) -> EntryPage[T]:
    """Of the streams of these apps, with those of the last one's moment, which ``before`` would
    leave out. ``read`` is told the app. Raises `Unreadable`."""
    streams = await _first_pages(reading, keys, most, before)
    heads = [(_descending(one.waiting[0][0]), app) for app, one in streams.items() if one.waiting]
    heapq.heapify(heads)
    found: list[T] = []
    looked, cut = 0, None
    while heads:
        at, app = heapq.heappop(heads)
        if cut is not None and at != cut:
            return EntryPage(found, f"{-cut[0]}-{-cut[1]}", looked)
        stream = streams[app]
        entry_id, fields = stream.waiting.popleft()
        looked += 1
        if lets(one := read(app, entry_id, fields)):
            found.append(one)
        if not stream.waiting and not stream.ended and stream.looked < _MAX_SCANNED:
            await _next_page(reading, stream)
        if stream.waiting:
            heapq.heappush(heads, (_descending(stream.waiting[0][0]), app))
        elif not stream.ended and cut is None:
            cut = at  # what is older of this app is not known
        if cut is None and (len(found) >= most or looked >= _MAX_SCANNED_IN_ALL):
            cut = at
        if looked % PAGE == 0:
            await asyncio.sleep(0)
    more = None if cut is None or _is_exhausted(streams) else f"{-cut[0]}-{-cut[1]}"
    return EntryPage(found, more, looked)


async def _first_pages(
    reading: AppReader, keys: Mapping[str, str], most: int, before: str
) -> dict[str, _StreamWalk]:
    count = min(PAGE, max(_MIN_COUNT, 2 * most // max(1, len(keys))))
    last = before if before == "+" else f"({before}"
    asked: dict[str, list[Command]] = {
        key: [("XREVRANGE", key, last, "-", "COUNT", count)] for key in keys.values()
    }
    found = await reading.query_keys(asked)
    streams = {}
    for app, key in keys.items():
        answers = found[key]
        if isinstance(answers, Unreadable):
            raise answers
        streams[app] = _StreamWalk(app, key)
        streams[app].take(parse_raw_entries(required(answers[0])), count)
    return streams


async def _next_page(reading: AppReader, stream: _StreamWalk) -> None:
    command = ("XREVRANGE", stream.key, f"({stream.last}", "-", "COUNT", PAGE)
    (answer,) = await reading.query_app(stream.app, [command])
    stream.take(parse_entries(required(answer)), PAGE)


def _is_exhausted(streams: Mapping[str, _StreamWalk]) -> bool:
    return all(one.ended and not one.waiting for one in streams.values())


def _descending(entry_id: str) -> tuple[int, int]:
    """An id as numbers that sort the newest first."""
    ms, number = stream_id(entry_id)
    return -ms, -number
