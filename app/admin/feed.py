"""`/api/feed`: every logout and every refusal as it happens, as server-sent events.

    event: ready     the beginning: from its id on nothing is left out
    event: logout    a revocation, as its app was told
    event: refusal   a logout token that was refused
    event: missed    entries of an app may be missing: its stream was trimmed past this reader

An id says how far everything up to its event has been read: a client that comes back with the last
one in ``Last-Event-ID`` goes on there. It is of each event; where more than 32 apps were busy
within a minute, of one in fifty or more, so a client that breaks off gets some again. A comment
every `HEARTBEAT_SECONDS` shows that the connection lives.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from functools import lru_cache
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from app.background import end
from app.history import (
    Cursor,
    DeliveredEvent,
    Feed,
    History,
    Missed,
    RefusalEntry,
    Unreadable,
    as_json,
)
from app.web import params
from app.web.audit_log import AuditLog
from app.web.errors import ApiFault, bad_request, not_found, redis_away
from app.web.resource import resource

# One reader serves them all; each has its own copy of the entries.
MOST_LISTENERS = 32

# Events in one piece: about a millisecond of the event loop.
_PIECE = 50

# Shorter than the idle timeouts of proxies, of which 30 s is the shortest that is common.
HEARTBEAT_SECONDS = 15.0

# How late a listener learns of a stop.
_STOP_SECONDS = 0.25

_HEADERS = {"X-Accel-Buffering": "no"}  # nginx would keep it to itself until it has a page full


class FeedRoutes:
    """``stopping`` says whether the service has been told to stop: then every listener ends, and
    finds another replica."""

    def __init__(
        self,
        history: History,
        records: AuditLog,
        stopping: Callable[[], bool],
    ) -> None:
        self._history = history
        self._records = records
        self._stopping = stopping
        self._listeners = 0

    @property
    def routes(self) -> list[Route]:
        return [resource("/api/feed", GET=self.listen)]

    async def listen(self, request: Request) -> Response:
        """Never ends by itself."""
        found = params.query(request, ["app", "refusals"])
        apps = list(self._history.apps)
        if "app" in found:
            if found["app"] not in apps:
                raise not_found("no app of this name is configured")
            apps = [found["app"]]
        refusals = params.flag({"refusals": "true"} | found, "refusals")
        last = request.headers.get("last-event-id")
        try:
            cursor = Cursor.parse(last) if last else Cursor()
        except ValueError:
            raise bad_request("Last-Event-ID is none that this feed has given") from None
        if self._listeners >= MOST_LISTENERS:
            raise ApiFault(503, "too_many_listeners", "too many listen to the feed", retry_after=10)
        # Who comes back goes on with the same look.
        await self._records.look_again("feed.listen", request, apps=apps if "app" in found else ())
        try:
            now = await self._history.ends(apps, refusals=refusals)
        except Unreadable as fault:
            raise redis_away() from fault
        if cursor.until is None:
            cursor = Cursor({**now, **cursor}) if cursor else now
        feed = self._history.feed(apps, refusals=refusals, cursor=cursor, fresh=not last)
        return StreamingResponse(self._sent(feed), headers=_HEADERS, media_type="text/event-stream")

    async def _sent(self, feed: Feed) -> AsyncIterator[str]:
        """What is ready goes out together: a piece costs nearly the same whatever its size."""
        self._listeners += 1
        batches = feed.batches()
        coming = asyncio.ensure_future(anext(batches))
        loop = asyncio.get_running_loop()
        said = loop.time()
        try:
            yield _event("ready", "{}", feed.cursor)
            while not self._stopping():
                await asyncio.wait({coming}, timeout=_STOP_SECONDS)
                if coming.done():
                    taken = feed.taken(coming.result())
                    while piece := _piece(islice(taken, _PIECE), feed.cursor):
                        yield piece
                    coming, said = asyncio.ensure_future(anext(batches)), loop.time()
                elif loop.time() - said >= HEARTBEAT_SECONDS:
                    yield ": still here\n\n"
                    said = loop.time()
        finally:
            self._listeners -= 1
            await end([coming])
            with contextlib.suppress(Exception):
                await batches.aclose()


@lru_cache(maxsize=2048)  # the same for every listener
def _shown(item: DeliveredEvent | RefusalEntry | Missed) -> tuple[str, str]:
    """The name of the event, and its data."""
    match item:
        case DeliveredEvent(event=None):
            return "logout", json.dumps({"app": item.app, "id": item.id, "unreadable": True})
        case DeliveredEvent():
            return "logout", json.dumps(as_json(item.event))
        case RefusalEntry():
            return "refusal", json.dumps(as_json(item))
        case Missed():
            return "missed", json.dumps(as_json(item))


def _piece(items: Iterator[DeliveredEvent | RefusalEntry | Missed], cursor: Cursor) -> str:
    """Some events, and how far they reach: each says it, where that is short, else the last one."""
    events = [_event(*_shown(item), cursor if cursor.is_short else None) for item in items]
    if events and not cursor.is_short:
        events[-1] = f"id: {cursor}\n{events[-1]}"
    return "".join(events)


def _event(name: str, data: str, cursor: Cursor | None) -> str:
    reaches = "" if cursor is None else f"id: {cursor}\n"
    return f"event: {name}\n{reaches}data: {data}\n\n"
