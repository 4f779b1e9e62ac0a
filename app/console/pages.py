"""What can be looked at: a page each. A look at people's sessions is noted in the audit."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.admin.probes import Body
from app.config.model import Settings
from app.config.presets import presets
from app.console import views
from app.console.plot import plot
from app.console.rendering import Rendering
from app.console.story_views import whole
from app.console.texts import TEXTS
from app.errors import Reason
from app.formatting import fetch_fault
from app.history import (
    REFUSALS,
    Conclusion,
    Cursor,
    EntryPage,
    Filter,
    History,
    RefusalEntry,
    RevocationQuery,
    SessionHistory,
    Unreadable,
)
from app.history.audit_stream import WAITS
from app.history.conclusion import conclude
from app.history.service_status import app_rows, service_rows, unread_rows, unserved_rows
from app.sessions.session_provider import SessionProvider
from app.store.unserved import Unserved
from app.telemetry.hashes import KeyedHash
from app.web import event_stream
from app.web.audit_log import AuditLog
from app.web.errors import bad_request, redis_unavailable
from app.web.event_stream import EventStreams
from app.web.params import MAX_VALUE, login_time
from backchannel_logout import EventKind
from backchannel_logout.contract.event import stream_id

# Rows of the feed's first view; the script keeps some hundreds.
FIRST_ROWS = 60

MOST_REFUSALS = 100

MOST_ACTS = 50

ALL_KINDS = [*(one.value for one in EventKind), "refusal"]
ALL_REASONS = [*(one.value for one in Reason), WAITS]

_ENTRY = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


# Ids that anybody may have chosen: taken as they are, whatever characters they have.
_IDS = ("sid", "sub", "user")


def query(request: Request, *known: str) -> dict[str, str]:
    """What the address says, without what is empty, as forms send it. Raises `ApiError`."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known or name in found:
            raise bad_request(f"the address may have {', '.join(known) or 'nothing'}, each once")
        if len(value) > MAX_VALUE:
            raise bad_request(f"{name} is too long")
        if text := value if name in _IDS else value.strip():
            found[name] = text
    return found


def before_of(found: Mapping[str, str], name: str = "before") -> str:
    """The id of a stream's entry, before which a list goes on. Raises `ApiError`."""
    value = found.get(name, "+")
    if value != "+" and not _ENTRY.fullmatch(value):
        raise bad_request(f"{name} is the id of an entry, such as 1795283041207-0")
    return value


class Pages:
    """``health`` says what `/readyz` would; ``stopping`` whether the service is about to stop;
    ``unserved`` is what the last search for apps that nobody serves has found."""

    def __init__(
        self,
        settings: Settings,
        history: History,
        providers: dict[str, SessionProvider],
        audit_log: AuditLog,
        rendering: Rendering,
        *,
        health: Callable[[], Body],
        stopping: Callable[[], bool],
        unserved: Callable[[], Unserved],
    ) -> None:
        self._settings = settings
        self._history = history
        self._providers = providers
        self._audit_log = audit_log
        self._rendering = rendering
        self._health = health
        self._presence = EventStreams(stopping)
        self._unserved = unserved

    @property
    def routes(self) -> list[Route]:
        return [
            Route(path, page, methods=["GET"])
            for path, page in (
                ("/console", self.feed),
                (views.STORY, self.story),
                ("/console/search", self.search),
                ("/console/refusals", self.refusals),
                ("/console/explain", self.explain),
                ("/console/issuers", self.issuers),
                ("/console/apps", self.apps),
                ("/console/health", self.health),
                ("/console/presence", self.presence),
            )
        ]

    async def feed(self, request: Request) -> Response:
        found = query(request, "app", "issuer", "kind", "reason", "text", "before")
        before = before_of(found)
        await self._audit_log.record_repeated_view("console.feed", request)
        apps = None  # all of them
        if "app" in found:
            apps = [one for one in self._history.apps if one == found["app"]]
        kind = found.get("kind")
        unknown = [
            TEXTS[f"unknown_{name}"]
            for name, values in (("app", self._history.apps), ("kind", ALL_KINDS))
            if name in found and found[name] not in values
        ]
        wanted = Filter(
            iss=found.get("issuer"), reason=found.get("reason"), text=found.get("text"),
            kind=EventKind(kind) if kind in set(EventKind) else None,
        )  # fmt: skip
        fault, cursor = None, Cursor()
        rows: list[views.PageRow] = []
        more, looked = [], 0
        try:
            # First: what comes while the rows are read is left to the script, which goes on here.
            cursor = await self._history.feed_ends(apps)
            if not unknown and kind != "refusal" and "reason" not in found:
                told = await self._history.recent(wanted, apps, limit=FIRST_ROWS + 1, before=before)
                rows += [views.of_told(one) for one in told if cursor.reaches(one.app, one.id)]
                more.append(told.more)
                looked += told.looked
            if not unknown and kind in (None, "refusal") and "app" not in found:
                refusals = await self._history.refusals(wanted, limit=FIRST_ROWS + 1, before=before)
                rows += [
                    views.of_refusal(one) for one in refusals if cursor.reaches(REFUSALS, one.id)
                ]
                more.append(refusals.more)
                looked += refusals.looked
        except Unreadable as error:
            fault = str(error)
        rows.sort(key=lambda one: stream_id(one.id), reverse=True)
        # Below the end of one of the two lists the rows are not complete: the next page has them.
        end = max(filter(None, more), key=stream_id, default=None)
        known = [one for one in rows if end is None or stream_id(one.id) >= stream_id(end)]
        shown = known[:FIRST_ROWS]
        # One logout has the same id in the streams of several apps: they are not parted.
        shown += [one for one in known[FIRST_ROWS:] if one.id == shown[-1].id]
        full = len(known) > len(shown)
        last = shown[-1].id if full else end
        older = {**found, "before": last} if last else None
        return self._rendering.page(
            request, "feed", rows=shown, chosen=found, past="before" in found, full=full,
            looked=f"{looked:,}",
            older=older and f"/console?{urlencode(older)}", newest=_newest(found),
            fault=fault, cursor=cursor or "", unknown=unknown,
            all_apps=self._history.apps, all_issuers=self._issuer_names(), all_kinds=ALL_KINDS,
            all_reasons=ALL_REASONS,
        )  # fmt: skip

    async def search(self, request: Request) -> Response:
        query(request)
        return self._search_page(request, {}, 200)

    def _search_page(self, request: Request, asked: Mapping[str, str], status: int) -> Response:
        return self._rendering.page(
            request, "search", status, all_issuers=self._issuer_names(), asked=asked,
            ask_id=bool(status != 200),
        )  # fmt: skip

    async def story(self, request: Request) -> Response:
        found = query(request, "iss", "sid", "sub", "login_at", "unverified", "everybody")
        if not found.keys() & {"sid", "sub"} and not {"iss", "everybody"} <= found.keys():
            return self._search_page(request, found, 400)
        question = RevocationQuery(
            iss=found.get("iss", ""), sid=found.get("sid"), sub=found.get("sub"),
            login_at=login_time(found, "login_at"),
        )  # fmt: skip
        if question.iss and question.iss not in self._history.issuers:
            raise bad_request("no issuer of this name is configured")
        await self._audit_log.record_repeated_view(
            "console.story", request, iss=question.iss or None, sid=question.sid, sub=question.sub
        )
        hashed = await self._audit_log.keyed_hash()
        if not question.iss:
            return await self._story_anywhere(request, found, question, hashed)
        story = await self._history.session_history(question, hashed=hashed)
        if story.conclusion is Conclusion.NOTHING_KNOWN and (again := _trimmed(found)):
            return RedirectResponse(f"{views.STORY}?{urlencode(again)}", 303)
        return self._story_page(request, found, story)

    def _story_page(
        self, request: Request, found: Mapping[str, str], story: SessionHistory
    ) -> Response:
        issuers = self._history.issuers
        elsewhere = {
            iss: f"{views.STORY}?{urlencode({**found, 'iss': iss})}" for iss in story.elsewhere
        }
        return self._rendering.page(
            request, "story", question=story.question, unverified="unverified" in found,
            whole=whole(story), elsewhere=elsewhere, refusals_read=story.refusals_read,
            refusals=[(views.refused(one, issuers), views.of_refusal(one))
                      for one in story.refusals],
        )  # fmt: skip

    async def _story_anywhere(
        self,
        request: Request,
        found: Mapping[str, str],
        question: RevocationQuery,
        hashed: KeyedHash | None,
    ) -> Response:
        """Without an issuer: to the one that knows the id; of several, a choice."""
        try:
            names = await self._history.issuers_knowing(question, hashed)
        except Unreadable as error:
            raise redis_unavailable() from error
        if not names and (again := _trimmed(found)):
            return RedirectResponse(f"{views.STORY}?{urlencode(again)}", 303)
        if len(self._issuer_names()) == 1:
            names = names or self._issuer_names()
        if len(names) == 1:
            to = {**found, "iss": names[0]}
            return RedirectResponse(f"{views.STORY}?{urlencode(to)}", 303)
        refusals: list[RefusalEntry] | None = None if hashed is None else []
        story = conclude(question, [], refusals, now=self._audit_log.clock(), elsewhere=names)
        return self._story_page(request, found, story)

    async def refusals(self, request: Request) -> Response:
        found = query(request, "issuer", "reason", "before", "id")
        await self._audit_log.record_repeated_view("console.refusals", request)
        wanted = Filter(iss=found.get("issuer"), reason=found.get("reason"))
        before, one_alone = before_of(found), before_of(found, "id")
        try:
            if one_alone != "+":
                single = await self._history.refusal(one_alone)
                refusals = EntryPage([] if single is None else [single])
            else:
                refusals = await self._history.refusals(
                    wanted, limit=MOST_REFUSALS + 1, before=before
                )
        except Unreadable as error:
            raise redis_unavailable() from error
        issuers = self._history.issuers
        shown = refusals[:MOST_REFUSALS]
        full = len(refusals) > len(shown)
        last = shown[-1].id if full else refusals.more
        older = {**found, "before": last} if last else None
        return self._rendering.page(
            request, "refusals", refusals=[views.refused(one, issuers) for one in shown],
            chosen=found, all_issuers=self._issuer_names(), all_reasons=ALL_REASONS,
            newest=_newest(found), full=full, looked=f"{refusals.looked:,}",
            older=older and f"{views.REFUSALS}?{urlencode(older)}", most=MOST_REFUSALS,
        )  # fmt: skip

    async def explain(self, request: Request) -> Response:
        query(request)
        return self._rendering.page(request, "explain", lines=None, fault=None)

    async def issuers(self, request: Request) -> Response:
        query(request)
        keys = self._health()["issuers"]
        known = presets()
        shown = []
        for issuer in self._settings.issuers:
            state = keys.get(issuer.issuer)
            try:
                last = await self._history.recent(
                    Filter(iss=issuer.issuer), self._history.apps_of(issuer.issuer), limit=1
                )
            except Unreadable:
                last = EntryPage([])
            provider = self._providers.get(issuer.issuer)
            shown.append({
                "issuer": issuer, "keys": state,
                "error": fetch_fault(state["error"]) if state and state["error"] else None,
                "last": last[0].at if last else None,
                "looked": f"{last.looked:,}" if last.more else None,
                "preset": known.get(issuer.preset or ""),
                "api": provider.kind if provider is not None else None,
            })  # fmt: skip
        return self._rendering.page(request, "issuers", issuers=shown, now=time.time())

    async def apps(self, request: Request) -> Response:
        query(request)
        overviews = await self._history.overviews()
        plots = {}
        for one in overviews:
            try:
                plots[one.app] = plot(await self._history.teardowns(one.app))
            except Unreadable:
                plots[one.app] = None
        return self._rendering.page(
            request, "apps", apps=overviews, plots=plots, now=self._audit_log.clock(),
            notes={one.app: [row.detail for row in unread_rows(one)] for one in overviews},
        )  # fmt: skip

    async def health(self, request: Request) -> Response:
        found = query(request, "before")
        try:
            audit = await self._history.audit(limit=MOST_ACTS + 1, before=before_of(found))
        except Unreadable:
            audit = None
        state, now = self._health(), self._audit_log.clock()
        rows = list(service_rows(state, now))
        for one in await self._history.overviews():
            rows += app_rows(one, now)
        rows += unserved_rows(self._unserved())
        older = audit[MOST_ACTS - 1].id if audit and len(audit) > MOST_ACTS else None
        return self._rendering.page(
            request, "health", state=state, audit=audit and audit[:MOST_ACTS], now=now,
            older=older, past="before" in found, trouble=views.trouble(rows),
        )  # fmt: skip

    async def presence(self, request: Request) -> Response:
        """A stream without events, which ends with the session: an open page notices."""
        query(request)
        return self._presence.response(_nothing())

    def _issuer_names(self) -> list[str]:
        return [one.issuer for one in self._settings.issuers]


async def _nothing() -> AsyncGenerator[str]:
    yield event_stream.comment("here")
    await asyncio.Event().wait()


def _trimmed(found: Mapping[str, str]) -> dict[str, str] | None:
    """The same question without blanks around the ids, as they are pasted; None where there are
    none. Asked second: an id may have them."""
    again = {name: value.strip() if name in _IDS else value for name, value in found.items()}
    return None if again == found else {name: value for name, value in again.items() if value}


def _newest(found: Mapping[str, str]) -> str:
    """The same filter, at the newest entry."""
    return urlencode({name: value for name, value in found.items() if name != "before"})
