"""Issuers, apps, and health, with the audit."""

import time
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.admin.key_fetches import KeyFetchRoutes
from app.admin.probes import Body
from app.config.model import Settings
from app.config.presets import presets
from app.console.forms import entry_id, query, session_form
from app.console.plot import plot
from app.console.rendering import Rendering
from app.formatting import fetch_fault
from app.history import EntryPage, Filter, History, Unreadable
from app.history.service_status import app_rows, service_rows, unread_rows, unserved_rows
from app.sessions.session_provider import SessionProvider
from app.store.unserved import Unserved
from app.verdict import CheckVerdict
from app.web.errors import not_found

MAX_ACTS = 50

_TONES = {CheckVerdict.WRONG: "bad", CheckVerdict.WARNING: "wait"}


@dataclass(frozen=True, slots=True)
class StatusPages:
    """``readiness`` returns the body of `/readyz`, ``unserved`` the last search for apps that no
    client serves."""

    settings: Settings
    history: History
    providers: Mapping[str, SessionProvider]
    key_fetches: KeyFetchRoutes
    rendering: Rendering
    _: KW_ONLY
    readiness: Callable[[], Body]
    unserved: Callable[[], Unserved]

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/console/issuers", self.issuers, methods=["GET"]),
            Route("/console/issuers/fetch", self.fetch_keys, methods=["POST"]),
            Route("/console/apps", self.apps, methods=["GET"]),
            Route("/console/health", self.health, methods=["GET"]),
        ]

    async def issuers(self, request: Request) -> Response:
        query(request)
        keys = self.readiness()["issuers"]
        known = presets()
        shown = []
        for issuer in self.settings.issuers:
            state = keys.get(issuer.issuer)
            try:
                last = await self.history.recent(
                    Filter(iss=issuer.issuer), self.history.apps_of(issuer.issuer), limit=1
                )
            except Unreadable:
                last = EntryPage([])
            provider = self.providers.get(issuer.issuer)
            shown.append({
                "issuer": issuer, "keys": state,
                "error": fetch_fault(state["error"]) if state and state["error"] else None,
                "last": last[0].at if last else None,
                "searched": f"{last.looked:,}" if last.more else None,
                "preset": known.get(issuer.preset or ""),
                "api": provider.kind if provider is not None else None,
            })  # fmt: skip
        return self.rendering.page(request, "issuers", issuers=shown, now=time.time())

    async def fetch_keys(self, request: Request) -> Response:
        """Fetch an issuer's keys now, in every receiver; the page then shows the result."""
        fields = await session_form(request)
        name = str(fields.get("issuer", ""))
        if name not in {issuer.issuer for issuer in self.settings.issuers}:
            raise not_found("no issuer of this name is configured")
        await self.key_fetches.fetch_for(request, name)
        return RedirectResponse("/console/issuers", 303)

    async def apps(self, request: Request) -> Response:
        query(request)
        overviews = await self.history.overviews()
        plots = {}
        for overview in overviews:
            try:
                plots[overview.app] = plot(await self.history.teardowns(overview.app))
            except Unreadable:
                plots[overview.app] = None
        return self.rendering.page(
            request, "apps", apps=overviews, plots=plots, now=time.time(),
            notes={each.app: [row.detail for row in unread_rows(each)] for each in overviews},
        )  # fmt: skip

    async def health(self, request: Request) -> Response:
        values = query(request, "before")
        try:
            audit = await self.history.audit(limit=MAX_ACTS + 1, before=entry_id(values))
        except Unreadable:
            audit = None
        state, now = self.readiness(), time.time()
        rows = list(service_rows(state, now))
        for overview in await self.history.overviews():
            rows += app_rows(overview, now)
        rows += unserved_rows(self.unserved())
        problems = [(_TONES[row.verdict], row) for row in rows if row.verdict in _TONES]
        problems.sort(key=lambda problem: problem[0])
        older = audit[MAX_ACTS - 1].id if audit and len(audit) > MAX_ACTS else None
        return self.rendering.page(
            request, "health", state=state, audit=audit and audit[:MAX_ACTS], now=now,
            older=older, past="before" in values, problems=problems,
        )  # fmt: skip
