"""A user's sessions at the provider: a list; end one, end all; and how far an end is.

What is done is what `/api` does: see `app.admin.sessions`.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.admin.asked import operator
from app.admin.faults import ApiFault, bad_request, redis_away
from app.admin.provider_faults import as_answers
from app.admin.records import Records
from app.admin.sessions import MOST_AT_ONCE
from app.admin.showing import shown_ending, shown_session
from app.history import History, Unreadable
from app.sessions.bulk import sessions_of
from app.sessions.endings import Endings
from app.sessions.interface import SessionProvider
from app.sessions.model import ProviderSession
from app.sessions.segment import NotAnId, segment

from .access import own_form
from .pages import query
from .rendering import Rendering
from .views import device

_LIST, _ENDING = "/console/sessions", "/console/sessions/ending"

# Shown on one page; the rest is followed all the same.
_MOST_SHOWN = 50


class SessionPages:
    def __init__(
        self,
        providers: Mapping[str, SessionProvider],
        endings: Endings,
        history: History,
        records: Records,
        rendering: Rendering,
    ) -> None:
        self._providers = providers
        self._endings = endings
        self._history = history
        self._records = records
        self._rendering = rendering

    @property
    def routes(self) -> list[Route]:
        return [
            Route(_LIST, self.list_sessions, methods=["GET"]),
            Route(_ENDING, self.show_ending, methods=["GET"]),
            Route("/console/sessions/end", self.end, methods=["POST"]),
            Route("/console/sessions/end-all", self.end_all, methods=["POST"]),
        ]

    async def list_sessions(self, request: Request) -> Response:
        found = query(request, "issuer", "user", "page")
        shown, following, provider = None, None, None
        if self._providers and "user" in found:
            provider = self._provider(found.get("issuer"))
            user = _id(found["user"])
            await self._records.look("sessions.list", request, iss=provider.issuer, sub=user)
            with as_answers():
                page = await provider.list(user, found.get("page"))
            now = self._records.clock()
            shown = [
                shown_session(one, now)
                | {"device": device(one.last_device if any((one.last_device.ip,
                   one.last_device.user_agent)) else one.first_device)}
                for one in page.sessions
            ]  # fmt: skip
            following = page.next
        return self._rendering.page(
            request, "sessions", providers=sorted(self._providers), chosen=found, shown=shown,
            issuer=provider.issuer if provider else None, following=following,
            now=self._records.clock(),
        )  # fmt: skip

    async def show_ending(self, request: Request) -> Response:
        """How far some ends are; looks again by itself."""
        members = request.query_params
        provider = self._provider(members.get("issuer"))
        ids = members.getlist("session")[:_MOST_SHOWN]
        if not ids:
            raise bad_request("say which session")
        shown = []
        for one in ids:
            try:
                ending = await self._endings.find(provider.issuer, _id(one))
            except Unreadable as fault:
                raise redis_away() from fault
            if ending is not None:
                within = self._endings.confirm_within
                shown.append(await shown_ending(ending, self._history, within))
        complete = all(one["over"] and one["state"] in ("proven", "unconfirmed") for one in shown)
        return self._rendering.page(
            request, "ending", endings=shown, complete=complete, issuer=provider.issuer
        )

    async def end(self, request: Request) -> Response:
        fields = await own_form(request)
        provider = self._provider(str(fields.get("issuer", "")))
        session_id = _id(str(fields.get("session", "")))
        user = _id(str(fields.get("user", "")))
        known_at = self._records.clock()
        with as_answers():
            session = await provider.read(session_id, user_id=user)
        if session is None:
            try:
                known = await self._endings.find(provider.issuer, session_id)
            except Unreadable as fault:
                raise redis_away() from fault
            if known is None:
                raise ApiFault(404, "not_found", "the provider knows no session of this id")
        else:
            await self._begin(provider, session, request, fields, known_at)
        return _to_endings(provider, [session_id])

    async def end_all(self, request: Request) -> Response:
        fields = await own_form(request)
        if fields.get("sure") != "yes":
            raise bad_request("tick the box to sign the user out everywhere")
        provider = self._provider(str(fields.get("issuer", "")))
        user = _id(str(fields.get("user", "")))
        known_at = self._records.clock()
        with as_answers():
            sessions = await sessions_of(provider, user)
        for one in sessions[:MOST_AT_ONCE]:
            await self._begin(provider, one, request, fields, known_at)
        if not sessions:
            return RedirectResponse(
                f"{_LIST}?{urlencode({'issuer': provider.issuer, 'user': user})}", 303
            )
        return _to_endings(provider, [one.id for one in sessions[:_MOST_SHOWN]])

    async def _begin(
        self,
        provider: SessionProvider,
        session: ProviderSession,
        request: Request,
        fields: Mapping[str, Any],
        known_at: float,
    ) -> None:
        who, why = operator(request).who, str(fields.get("why", "")).strip()[:500] or None
        refresh_tokens = fields.get("refresh_tokens") == "yes"
        try:
            with as_answers():
                ending = await self._endings.begin(
                    provider, session, known_at=known_at,
                    refresh_tokens=refresh_tokens, who=who, why=why,
                )  # fmt: skip
        except Unreadable as fault:
            raise redis_away() from fault
        await self._records.act(
            "session.end", request, outcome=ending.step.value, why=why, iss=provider.issuer,
            apps=ending.apps, sid=session.id, sub=session.user_id,
        )  # fmt: skip

    def _provider(self, name: str | None) -> SessionProvider:
        found = self._providers.get(name or "")
        if found is None and not name and len(self._providers) == 1:
            found = next(iter(self._providers.values()))
        if found is None:
            raise bad_request("no issuer of this name has a session API")
        return found


def _to_endings(provider: SessionProvider, ids: list[str]) -> Response:
    pairs = [("issuer", provider.issuer), *(("session", one) for one in ids)]
    return RedirectResponse(f"{_ENDING}?{urlencode(pairs)}", 303)


def _id(value: str) -> str:
    try:
        segment(value)
    except NotAnId as fault:
        raise bad_request(f"{fault}") from None
    return value
