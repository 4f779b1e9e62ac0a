"""`/api/users/{user}/sessions`, `/api/sessions/{session}`: the providers' sessions.

Looked at in the provider's own API, each time anew; ended there, and followed until every app has
let go: see `app.sessions.endings`.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.history import History, Question, Unreadable, as_json
from app.sessions.bulk import sessions_of
from app.sessions.ending import Ending
from app.sessions.endings import Endings
from app.sessions.interface import SessionProvider
from app.sessions.model import ProviderSession
from app.sessions.segment import NotAnId, segment

from . import asked
from .faults import ApiFault, bad_request, not_found, redis_away
from .provider_faults import as_answers
from .records import Records
from .resource import resource
from .showing import shown_ending, shown_session

# Sessions of one user that one request ends; who has more asks again.
MOST_AT_ONCE = 200

_ORDER = ("refresh_tokens", "by", "reason")


class SessionRoutes:
    """``providers`` are by the issuer's configured name: those that have a session API."""

    def __init__(
        self,
        providers: Mapping[str, SessionProvider],
        endings: Endings,
        history: History,
        records: Records,
    ) -> None:
        self._providers = providers
        self._endings = endings
        self._history = history
        self._records = records

    @property
    def routes(self) -> list[Route]:
        user, session = "/api/users/{user}/sessions", "/api/sessions/{session}"
        return [
            resource(user, GET=self.list_sessions, DELETE=self.end_all),
            resource(session, GET=self.read, DELETE=self.end),
            resource(session + "/state", GET=self.state),
        ]

    # -- looks -----------------------------------------------------------------------------

    async def list_sessions(self, request: Request) -> Response:
        """A page of a user's sessions."""
        found = asked.query(request, ["issuer", "page"])
        provider = self._provider(found)
        user = _id(asked.segment(request, "user"))
        await self._records.look("sessions.list", request, iss=provider.issuer, sub=user)
        with as_answers():
            page = await provider.list(user, found.get("page"))
        now = self._records.clock()
        return JSONResponse(
            {"sessions": [shown_session(one, now) for one in page.sessions], "next": page.next}
        )

    async def read(self, request: Request) -> Response:
        """One session: what the provider says of it, and what each app does."""
        provider, session_id = self._asked_for(request, ["issuer", "user"])
        user = request.query_params.get("user")
        await self._records.look(
            "session.read", request, iss=provider.issuer, sid=session_id, sub=user
        )
        with as_answers():
            session = await provider.read(session_id, user_id=user)
        ending = await self._found(provider, session_id)
        if session is None and ending is None:
            raise not_found("the provider knows no session of this id")
        sub = session.user_id if session is not None else None
        question = Question(iss=provider.issuer, sid=session_id, sub=sub)
        apps = await self._history.story(question)
        now = self._records.clock()
        return JSONResponse(
            {
                "session": shown_session(session, now) if session is not None else None,
                "apps": as_json(apps),
                "ending": await self._shown_ending(ending) if ending is not None else None,
            }
        )

    async def state(self, request: Request) -> Response:
        """How far the end of a session is."""
        provider, session_id = self._asked_for(request, ["issuer"])
        ending = await self._found(provider, session_id)
        if ending is None:
            raise not_found("nobody has ended a session of this id here, or it was days ago")
        return JSONResponse(await self._shown_ending(ending))

    # -- acts ------------------------------------------------------------------------------

    async def end(self, request: Request) -> Response:
        """End one session: 202, for it has only begun."""
        provider, session_id = self._asked_for(request, ["issuer", *_ORDER])
        order = _order(request)
        async with self._audited(request, order, iss=provider.issuer, sid=session_id):
            return await self._end(request, provider, session_id, order)

    async def _end(
        self, request: Request, provider: SessionProvider, session_id: str, order: "_Order"
    ) -> Response:
        known_at = self._records.clock()
        ending = await self._found(provider, session_id)
        if ending is not None and ending.outcome is None:
            session: ProviderSession | None = ProviderSession(
                id=session_id, issuer=ending.issuer, user_id=ending.user,
                created_at=ending.created_at,
            )  # fmt: skip
        else:
            with as_answers():
                session = await provider.read(session_id)
        if session is None:
            # Gone: as ended before, or by somebody else since we looked.
            ending = await self._found(provider, session_id)
            if ending is None:
                raise not_found("the provider knows no session of this id")
            return JSONResponse(await self._shown_ending(ending), 200 if ending.outcome else 202)
        if session.offline and not order.refresh_tokens:
            # Perhaps what an end before this one was to spare.
            raise ApiFault(
                409, "offline_session", "this session is nothing but refresh tokens: to end them,"
                " say refresh_tokens=true",
            )  # fmt: skip
        ending = await self._begin(provider, session, request, order, known_at)
        where = f"/api/sessions/{segment(session_id)}/state"
        return JSONResponse(
            await self._shown_ending(ending), 202, {"Location": self._at(where, provider)}
        )

    async def end_all(self, request: Request) -> Response:
        """End all sessions of a user, or all but one."""
        found = asked.query(request, ["issuer", "except", *_ORDER])
        provider, order = self._provider(found), _order(request)
        user = _id(asked.segment(request, "user"))
        async with self._audited(request, order, iss=provider.issuer, sub=user):
            return await self._end_all(request, provider, user, found.get("except"), order)

    async def _end_all(
        self,
        request: Request,
        provider: SessionProvider,
        user: str,
        keep: str | None,
        order: "_Order",
    ) -> Response:
        known_at = self._records.clock()
        with as_answers():
            sessions = await sessions_of(provider, user)
        if keep is not None and keep not in [one.id for one in sessions]:
            raise ApiFault(
                409, "unknown_session", "the session of `except` is none of this user's; none was"
                " ended",
            )  # fmt: skip
        ended = [one for one in sessions if one.id != keep]
        endings = [
            await self._begin(provider, one, request, order, known_at)
            for one in ended[:MOST_AT_ONCE]
        ]
        if not endings:
            await self._records.act(
                "session.end", request, outcome="nothing", who=order.who, why=order.why,
                iss=provider.issuer, sub=user,
            )  # fmt: skip
        shown_endings = [await self._shown_ending(one) for one in endings]
        return JSONResponse(
            {"endings": shown_endings, "more": len(ended) > MOST_AT_ONCE}, 202 if endings else 200
        )

    @contextlib.asynccontextmanager
    async def _audited(
        self, request: Request, order: "_Order", **whose: str
    ) -> AsyncIterator[None]:
        """An end that is refused, or fails, is an act as well: its outcome is the fault's code."""
        try:
            yield
        except ApiFault as fault:
            await self._records.act(
                "session.end", request, outcome=fault.code, who=order.who, why=order.why, **whose
            )
            raise

    async def _begin(
        self,
        provider: SessionProvider,
        session: ProviderSession,
        request: Request,
        order: "_Order",
        known_at: float,
    ) -> Ending:
        try:
            with as_answers():
                ending = await self._endings.begin(
                    provider, session, known_at=known_at,
                    refresh_tokens=order.refresh_tokens, who=order.who, why=order.why,
                )  # fmt: skip
        except Unreadable as fault:
            raise redis_away() from fault
        await self._records.act(
            "session.end", request, outcome=ending.step.value, who=order.who, why=order.why,
            iss=provider.issuer, apps=ending.apps, sid=session.id, sub=session.user_id,
        )  # fmt: skip
        return ending

    # -- parts -----------------------------------------------------------------------------

    def _asked_for(self, request: Request, allowed: list[str]) -> tuple[SessionProvider, str]:
        provider = self._provider(asked.query(request, allowed))
        return provider, _id(asked.segment(request, "session"))

    def _provider(self, found: Mapping[str, str]) -> SessionProvider:
        """The one that is meant: by name where there are several."""
        name = found.get("issuer")
        if name is not None:
            issuer = self._history.issuers.get(name)
            provider = self._providers.get(issuer.issuer) if issuer is not None else None
            if provider is None:
                raise not_found("no issuer of this name has a session API in the settings")
            return provider
        if not self._providers:
            raise not_found("no issuer has a session API in the settings ([issuers.sessions])")
        if len(self._providers) > 1:
            raise bad_request("issuer is required: several issuers have a session API")
        return next(iter(self._providers.values()))

    async def _found(self, provider: SessionProvider, session_id: str) -> Ending | None:
        try:
            return await self._endings.find(provider.issuer, session_id)
        except Unreadable as fault:
            raise redis_away() from fault

    def _at(self, path: str, provider: SessionProvider) -> str:
        if len(self._providers) == 1:
            return path
        return f"{path}?issuer={quote(provider.issuer, safe='')}"

    async def _shown_ending(self, ending: Ending) -> dict[str, Any]:
        return await shown_ending(ending, self._history, self._endings.confirm_within)


@dataclass(frozen=True, slots=True)
class _Order:
    """What is asked of an end, beside whose."""

    refresh_tokens: bool
    who: str
    why: str | None


def _order(request: Request) -> _Order:
    """Raises `ApiFault`."""
    found = dict(request.query_params)
    return _Order(
        asked.flag(found, "refresh_tokens"),
        found.get("by", asked.operator(request).who),
        found.get("reason"),
    )


def _id(value: str) -> str:
    """An id that a provider could have. Raises `ApiFault`."""
    try:
        segment(value)
    except NotAnId as fault:
        raise bad_request(f"{fault}") from None
    return value
