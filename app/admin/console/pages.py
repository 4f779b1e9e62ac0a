"""What can be looked at: a page each. A look at people's sessions is noted in the audit."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from app.admin.asked import LONGEST_VALUE, whole_number
from app.admin.faults import bad_request, redis_away
from app.admin.feed import HEARTBEAT_SECONDS
from app.admin.probes import Body
from app.admin.records import Records
from app.errors import Reason
from app.history import Cursor, Filter, History, Question, Unreadable
from app.history.feed import REFUSALS
from app.presets import presets
from app.sessions.interface import SessionProvider
from app.settings import Settings
from app.words import fetch_fault
from backchannel_logout import EventKind

from . import views
from .plot import plot
from .rendering import Rendering

# Rows of the feed's first view; the script keeps some hundreds.
FIRST_ROWS = 60

MOST_REFUSALS = 100

_STOP_SECONDS = 0.25


def query(request: Request, *known: str) -> dict[str, str]:
    """What the address says, without what is empty, as forms send it. Raises `ApiFault`."""
    found = {}
    for name, value in request.query_params.multi_items():
        if name not in known or name in found:
            raise bad_request(f"the address may have {', '.join(known) or 'nothing'}, each once")
        if len(value) > LONGEST_VALUE or not (value.isprintable()):
            raise bad_request(f"{name} is too long, or not printable")
        if value.strip():
            found[name] = value.strip()
    return found


class Pages:
    """``health`` says what `/readyz` would; ``stopping`` whether the service is about to stop."""

    def __init__(
        self,
        settings: Settings,
        history: History,
        providers: dict[str, SessionProvider],
        records: Records,
        rendering: Rendering,
        *,
        health: Callable[[], Awaitable[Body]],
        stopping: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._history = history
        self._providers = providers
        self._records = records
        self._rendering = rendering
        self._health = health
        self._stopping = stopping

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
        found = query(request, "app", "issuer", "kind", "reason", "text")
        await self._records.look_again("console.feed", request)
        apps = None  # all of them
        if "app" in found:
            apps = [one for one in self._history.apps if one == found["app"]]
        kind = found.get("kind")
        wanted = Filter(
            iss=found.get("issuer"), reason=found.get("reason"), text=found.get("text"),
            kind=EventKind(kind) if kind in set(EventKind) else None,
        )  # fmt: skip
        fault, cursor = None, Cursor()
        rows: list[views.Row] = []
        try:
            # First: what comes while the rows are read is left to the script, which goes on here.
            cursor = await self._history.ends(apps)
            if kind != "refusal" and "reason" not in found:
                told = await self._history.recent(wanted, apps, most=FIRST_ROWS)
                rows += [views.of_told(one) for one in told if cursor.reaches(one.app, one.id)]
            if kind in (None, "refusal") and "app" not in found:
                refusals = await self._history.refusals(wanted, most=FIRST_ROWS)
                rows += [
                    views.of_refusal(one) for one in refusals if cursor.reaches(REFUSALS, one.id)
                ]
        except Unreadable as error:
            fault = str(error)
        rows.sort(key=lambda one: -one.at)
        return self._rendering.page(
            request, "feed", rows=rows[:FIRST_ROWS], chosen=found, fault=fault, cursor=cursor or "",
            all_apps=self._history.apps, all_issuers=self._issuer_names(), unknown_app=apps == [],
            all_kinds=[*(one.value for one in EventKind), "refusal"],
            all_reasons=[one.value for one in Reason],
        )  # fmt: skip

    async def search(self, request: Request) -> Response:
        query(request)
        return self._rendering.page(request, "search", all_issuers=self._issuer_names())

    async def story(self, request: Request) -> Response:
        found = query(request, "iss", "sid", "sub", "login_at", "unverified")
        iss = found.get("iss") or self._issuer_names()[0]
        if iss not in self._history.issuers:
            raise bad_request("no issuer of this name is configured")
        if "sid" not in found and "sub" not in found and "iss" not in found:
            raise bad_request("say whom it is about: a session id, or a user")
        question = Question(
            iss=iss, sid=found.get("sid"), sub=found.get("sub"),
            login_at=whole_number(found, "login_at"),
        )  # fmt: skip
        await self._records.look_again(
            "console.story", request, iss=iss, sid=question.sid, sub=question.sub
        )
        stories = await self._history.story(question)
        tales = [views.tale(question, one) for one in stories]
        return self._rendering.page(
            request, "story", question=question, tales=tales, unverified="unverified" in found,
            complete=all(one.complete for one in tales), told=any(one.chapters for one in tales),
        )  # fmt: skip

    async def refusals(self, request: Request) -> Response:
        found = query(request, "issuer", "reason")
        await self._records.look_again("console.refusals", request)
        wanted = Filter(iss=found.get("issuer"), reason=found.get("reason"))
        try:
            refusals = await self._history.refusals(wanted, most=MOST_REFUSALS)
        except Unreadable as error:
            raise redis_away() from error
        issuers = self._history.issuers
        return self._rendering.page(
            request, "refusals", refusals=[views.refused(one, issuers) for one in refusals],
            chosen=found, all_issuers=self._issuer_names(),
            all_reasons=[one.value for one in Reason],
        )  # fmt: skip

    async def explain(self, request: Request) -> Response:
        query(request)
        return self._rendering.page(request, "explain", lines=None, fault=None, refused=False)

    async def issuers(self, request: Request) -> Response:
        query(request)
        keys = (await self._health())["issuers"]
        known = presets()
        shown = []
        for issuer in self._settings.issuers:
            state = keys.get(issuer.issuer)
            try:
                last = await self._history.recent(
                    Filter(iss=issuer.issuer), self._history.apps_of(issuer.issuer), most=1
                )
            except Unreadable:
                last = []
            provider = self._providers.get(issuer.issuer)
            shown.append({
                "issuer": issuer, "keys": state,
                "error": fetch_fault(state["error"]) if state and state["error"] else None,
                "last": last[0].at if last else None, "preset": known.get(issuer.preset or ""),
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
            request, "apps", apps=overviews, plots=plots, now=self._records.clock()
        )

    async def health(self, request: Request) -> Response:
        query(request)
        try:
            audit = await self._history.audit(most=50)
        except Unreadable:
            audit = []
        return self._rendering.page(
            request, "health", state=await self._health(), audit=audit, now=self._records.clock()
        )

    async def presence(self, request: Request) -> Response:
        """Says nothing, and ends when the session does: so an open page learns of it."""
        query(request)

        async def beats() -> AsyncIterator[str]:
            loop = asyncio.get_running_loop()
            said = -HEARTBEAT_SECONDS
            while not self._stopping():
                if loop.time() - said >= HEARTBEAT_SECONDS:
                    said = loop.time()
                    yield ": here\n\n"
                await asyncio.sleep(_STOP_SECONDS)

        return StreamingResponse(beats(), media_type="text/event-stream")

    def _issuer_names(self) -> list[str]:
        return [one.issuer for one in self._settings.issuers]
