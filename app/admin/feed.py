"""`/api/feed`: every logout and every refusal as it happens, as server-sent events.

    event: ready     the start: nothing after its id is left out
    event: logout    a revocation, as delivered to its app
    event: refusal   a refused logout token
    event: missed    entries of an app may be missing: its stream was trimmed past this client

A client that reconnects with the last id in ``Last-Event-ID`` continues there. Each event has an
id, unless more than 32 apps were active within a minute: then about one in fifty has one, and a
client that reconnects receives some events again.
"""

import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from functools import lru_cache
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.history import (
    Cursor,
    DeliveredEvent,
    Feed,
    History,
    Missed,
    RefusalEntry,
    as_json,
)
from app.web import event_stream, params
from app.web.audit_log import AuditLog
from app.web.errors import bad_request, not_found, readable_redis
from app.web.event_stream import EventStreams
from app.web.resource import resource

# One reader serves all of them; each has its own copy of the entries.
MAX_STREAMS = 32

# Events per chunk: about a millisecond of the event loop.
_CHUNK_EVENTS = 50


class FeedRoutes:
    def __init__(
        self,
        history: History,
        audit_log: AuditLog,
        stopping: Callable[[], bool],
    ) -> None:
        self._history = history
        self._audit_log = audit_log
        self._streams = EventStreams(stopping, max_streams=MAX_STREAMS)

    @property
    def routes(self) -> list[Route]:
        return [resource("/api/feed", GET=self.listen)]

    async def listen(self, request: Request) -> Response:
        """Stream until the client disconnects or the service stops."""
        values = params.query(request, ["app", "refusals"])
        apps = list(self._history.apps)
        if "app" in values:
            if values["app"] not in apps:
                raise not_found("no app of this name is configured")
            apps = [values["app"]]
        refusals = params.flag({"refusals": "true"} | values, "refusals")
        last = request.headers.get("last-event-id")
        try:
            cursor = Cursor.parse(last) if last else Cursor()
        except ValueError:
            raise bad_request("Last-Event-ID is none that this feed has given") from None
        self._streams.check_room("too many listen to the feed", retry_after=10)
        # A client that reconnects continues the view that is in the audit log already.
        await self._audit_log.record_repeated_view(
            "feed.listen", request, apps=apps if "app" in values else ()
        )
        with readable_redis():
            now = await self._history.feed_ends(apps, refusals=refusals)
        if cursor.until is None:
            cursor = Cursor({**now, **cursor}) if cursor else now
        feed = self._history.feed(apps, refusals=refusals, cursor=cursor, fresh=not last)
        return self._streams.response(_chunks(feed))


async def _chunks(feed: Feed) -> AsyncGenerator[str]:
    """The events that are ready, sent together: a chunk costs nearly the same at any size."""
    yield event_stream.event("ready", "{}", str(feed.cursor))
    async with aclosing(feed.batches()) as batches:
        async for batch in batches:
            items = feed.deliver(batch)
            while chunk := _chunk(islice(items, _CHUNK_EVENTS), feed.cursor):
                yield chunk


@lru_cache(maxsize=2048)  # the same for every client
def _name_and_data(item: DeliveredEvent | RefusalEntry | Missed) -> tuple[str, str]:
    match item:
        case DeliveredEvent(event=None):
            return "logout", json.dumps({"app": item.app, "id": item.id, "unreadable": True})
        case DeliveredEvent():
            return "logout", json.dumps(as_json(item.event))
        case RefusalEntry():
            return "refusal", json.dumps(as_json(item))
        case Missed():
            return "missed", json.dumps(as_json(item))


def _chunk(items: Iterator[DeliveredEvent | RefusalEntry | Missed], cursor: Cursor) -> str:
    """Each event with its own id, if the cursor is short; otherwise only the last one has an id."""
    events = [
        event_stream.event(*_name_and_data(item), str(cursor) if cursor.is_short else None)
        for item in items
    ]
    if events and not cursor.is_short:
        events[-1] = f"id: {cursor}\n{events[-1]}"
    return "".join(events)
