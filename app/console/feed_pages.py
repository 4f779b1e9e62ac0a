"""The feed and the refusals: lists of stream entries with filters and older pages."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.console import feed_views
from app.console.forms import entry_id, query
from app.console.rendering import Rendering
from app.errors import Reason
from app.history import REFUSALS, Cursor, EntryPage, Filter, History, Unreadable
from app.history.audit_stream import WAITS
from app.web import event_stream
from app.web.audit_log import AuditLog
from app.web.errors import readable_redis
from app.web.event_stream import EventStreams
from backchannel_logout import EventKind
from backchannel_logout.contract.event import stream_id

# Rows of the feed's first page; the script keeps some hundreds.
FIRST_ROWS = 60

MAX_REFUSALS = 100

ALL_KINDS = [*(kind.value for kind in EventKind), "refusal"]
ALL_REASONS = [*(reason.value for reason in Reason), WAITS]


@dataclass(frozen=True, slots=True)
class FeedPages:
    """``issuers`` are those of the settings, by their configured names."""

    issuers: list[str]
    history: History
    audit_log: AuditLog
    rendering: Rendering
    streams: EventStreams

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/console", self.feed, methods=["GET"]),
            Route(feed_views.REFUSALS, self.refusals, methods=["GET"]),
            Route("/console/presence", self.presence, methods=["GET"]),
        ]

    async def feed(self, request: Request) -> Response:
        values = query(request, "app", "issuer", "kind", "reason", "text", "before")
        before = entry_id(values)
        await self.audit_log.record_repeated_view("console.feed", request)
        apps = (
            [app for app in self.history.apps if app == values["app"]] if "app" in values else None
        )
        kind = values.get("kind")
        unknown = [
            name
            for name, known in (("app", self.history.apps), ("kind", ALL_KINDS))
            if name in values and values[name] not in known
        ]
        wanted = Filter(
            iss=values.get("issuer"), reason=values.get("reason"), text=values.get("text"),
            kind=EventKind(kind) if kind in set(EventKind) else None,
        )  # fmt: skip
        fault, cursor = None, Cursor()
        rows: list[feed_views.FeedRow] = []
        more, searched = [], 0
        try:
            # Read first: the script continues at this cursor, so nothing is shown twice.
            cursor = await self.history.feed_ends(apps)
            if not unknown and kind != "refusal" and "reason" not in values:
                events = await self.history.recent(
                    wanted, apps, limit=FIRST_ROWS + 1, before=before
                )
                rows += [
                    feed_views.event_row(event)
                    for event in events
                    if cursor.reaches(event.app, event.id)
                ]
                more.append(events.more)
                searched += events.looked
            if not unknown and kind in (None, "refusal") and "app" not in values:
                refusals = await self.history.refusals(wanted, limit=FIRST_ROWS + 1, before=before)
                rows += [
                    feed_views.refusal_row(refusal)
                    for refusal in refusals
                    if cursor.reaches(REFUSALS, refusal.id)
                ]
                more.append(refusals.more)
                searched += refusals.looked
        except Unreadable as error:
            fault = str(error)
        rows.sort(key=lambda row: stream_id(row.id), reverse=True)
        # Below the end of either list the rows are incomplete: the next page has them.
        end = max(filter(None, more), key=stream_id, default=None)
        complete = [row for row in rows if end is None or stream_id(row.id) >= stream_id(end)]
        shown = complete[:FIRST_ROWS]
        # One logout has the same id in the streams of several apps: keep its rows together.
        shown += [row for row in complete[FIRST_ROWS:] if row.id == shown[-1].id]
        full = len(complete) > len(shown)
        last = shown[-1].id if full else end
        return self.rendering.page(
            request, "feed", rows=shown, chosen=values, past="before" in values, full=full,
            searched=f"{searched:,}", older=_older("/console", values, last),
            newest=_newest(values), fault=fault, cursor=cursor or "", unknown=unknown,
            all_apps=self.history.apps, all_issuers=self.issuers, all_kinds=ALL_KINDS,
            all_reasons=ALL_REASONS,
        )  # fmt: skip

    async def refusals(self, request: Request) -> Response:
        values = query(request, "issuer", "reason", "before", "id")
        await self.audit_log.record_repeated_view("console.refusals", request)
        wanted = Filter(iss=values.get("issuer"), reason=values.get("reason"))
        before, single_id = entry_id(values), entry_id(values, "id")
        with readable_redis():
            if single_id != "+":
                single = await self.history.refusal(single_id)
                refusals = EntryPage([] if single is None else [single])
            else:
                refusals = await self.history.refusals(
                    wanted, limit=MAX_REFUSALS + 1, before=before
                )
        issuers = self.history.issuers
        shown = refusals[:MAX_REFUSALS]
        full = len(refusals) > len(shown)
        last = shown[-1].id if full else refusals.more
        return self.rendering.page(
            request, "refusals",
            refusals=[feed_views.refusal_view(refusal, issuers) for refusal in shown],
            chosen=values, all_issuers=self.issuers, all_reasons=ALL_REASONS,
            newest=_newest(values), full=full, searched=f"{refusals.looked:,}",
            older=_older(feed_views.REFUSALS, values, last), shown=len(shown),
        )  # fmt: skip

    async def presence(self, request: Request) -> Response:
        """A stream without events, which ends with the session: an open page notices."""
        query(request)
        return self.streams.response(_nothing())


async def _nothing() -> AsyncGenerator[str]:
    yield event_stream.comment("here")
    await asyncio.Event().wait()


def _older(path: str, values: Mapping[str, str], last: str | None) -> str | None:
    """The same filter, after the entry ``last``."""
    return f"{path}?{urlencode({**values, 'before': last})}" if last else None


def _newest(values: Mapping[str, str]) -> str:
    """The same filter, from the newest entry."""
    return urlencode({name: value for name, value in values.items() if name != "before"})
