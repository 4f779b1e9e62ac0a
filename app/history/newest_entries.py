"""The newest entries that match a filter, from one stream or from many merged by time."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Generic, TypeVar

from app.history.app_reader import AppReader, Command, Unreadable, required
from app.history.audit_stream import AuditEntry, RefusalEntry
from app.history.streams import (
    PAGE,
    Entry,
    Fields,
    newest_first,
    parse_entries,
    parse_raw_entries,
)
from backchannel_logout.contract.event import stream_id

T = TypeVar("T")
E = TypeVar("E", RefusalEntry, AuditEntry)

# Entries examined for matches at most: of one stream, and of many together.
_MAX_SCANNED = 20_000
_MAX_SCANNED_IN_ALL = 100_000

# First read from each of many streams: most have none of the newest entries.
_MIN_COUNT = 4


class EntryPage(list[T], Generic[T]):
    """Newest first. ``more``: the ``before`` for older entries; None: there are none.

    ``looked``: how many entries were examined.
    """

    def __init__(self, matches: list[T], more: str | None = None, scanned: int = 0) -> None:
        super().__init__(matches)
        self.more = more
        self.looked = scanned


async def newest_in_stream(
    reader: AppReader,
    key: str,
    kind: type[E],
    passes: Callable[[E], bool],
    *,
    limit: int,
    before: str,
) -> EntryPage[E]:
    """A page of one stream. ``before`` is an id, or ``+``. Raises `Unreadable`."""
    matches: list[E] = []
    scanned, last = 0, ""
    ask = partial(reader.query_key, key)
    async for page in newest_first(ask, key, before=before, limit=_MAX_SCANNED):
        matches += filter(passes, (kind.from_fields(*entry) for entry in page))
        scanned, last = scanned + len(page), page[-1][0]
        if len(matches) > limit:
            return EntryPage(matches[:limit], matches[limit - 1].id, scanned)
    return EntryPage(matches, last if scanned >= _MAX_SCANNED else None, scanned)


class _StreamWalk:
    """The position of a walk back through one of many streams."""

    def __init__(self, app: str, key: str) -> None:
        self.app, self.key = app, key
        self.waiting: deque[Entry] = deque()
        self.last = ""
        self.ended = False
        self.looked = 0

    def take(self, page: list[Entry], count: int) -> None:
        self.waiting.extend(page)
        self.looked += len(page)
        self.ended = len(page) < count
        if page:
            self.last = page[-1][0]


async def newest_in_streams(
    reader: AppReader,
    keys: Mapping[str, str],
    read: Callable[[str, str, Fields], T],
    passes: Callable[[T], bool],
    *,
    limit: int,
    before: str,
) -> EntryPage[T]:
    """A page of these apps' streams, merged by time.

    It includes all entries with the last one's id, because ``before`` would skip them. ``read``
    gets the app's name. Raises `Unreadable`.
    """
    streams = await _first_pages(reader, keys, limit, before)
    heads = [
        (_descending(stream.waiting[0][0]), app)
        for app, stream in streams.items()
        if stream.waiting
    ]
    heapq.heapify(heads)
    matches: list[T] = []
    scanned, cut = 0, None
    while heads:
        at, app = heapq.heappop(heads)
        if cut is not None and at != cut:
            return EntryPage(matches, f"{-cut[0]}-{-cut[1]}", scanned)
        stream = streams[app]
        entry_id, fields = stream.waiting.popleft()
        scanned += 1
        if passes(item := read(app, entry_id, fields)):
            matches.append(item)
        if not stream.waiting and not stream.ended and stream.looked < _MAX_SCANNED:
            await _next_page(reader, stream)
        if stream.waiting:
            heapq.heappush(heads, (_descending(stream.waiting[0][0]), app))
        elif not stream.ended and cut is None:
            cut = at  # this app's older entries were not read
        if cut is None and (len(matches) >= limit or scanned >= _MAX_SCANNED_IN_ALL):
            cut = at
        if scanned % PAGE == 0:
            await asyncio.sleep(0)
    more = None if cut is None or _is_exhausted(streams) else f"{-cut[0]}-{-cut[1]}"
    return EntryPage(matches, more, scanned)


async def _first_pages(
    reader: AppReader, keys: Mapping[str, str], limit: int, before: str
) -> dict[str, _StreamWalk]:
    count = min(PAGE, max(_MIN_COUNT, 2 * limit // max(1, len(keys))))
    last = before if before == "+" else f"({before}"
    commands: dict[str, list[Command]] = {
        key: [("XREVRANGE", key, last, "-", "COUNT", count)] for key in keys.values()
    }
    matches = await reader.query_keys(commands)
    streams = {}
    for app, key in keys.items():
        answers = matches[key]
        if isinstance(answers, Unreadable):
            raise answers
        streams[app] = _StreamWalk(app, key)
        streams[app].take(parse_raw_entries(required(answers[0])), count)
    return streams


async def _next_page(reader: AppReader, stream: _StreamWalk) -> None:
    command = ("XREVRANGE", stream.key, f"({stream.last}", "-", "COUNT", PAGE)
    (answer,) = await reader.query_app(stream.app, [command])
    stream.take(parse_entries(required(answer)), PAGE)


def _is_exhausted(streams: Mapping[str, _StreamWalk]) -> bool:
    return all(stream.ended and not stream.waiting for stream in streams.values())


def _descending(entry_id: str) -> tuple[int, int]:
    """An id as numbers that sort newest first."""
    ms, number = stream_id(entry_id)
    return -ms, -number
