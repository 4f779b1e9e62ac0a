"""`/account/sessions`: the caller's own sessions, listed and ended.

Whose session it is, the provider says, before anything is written: what is not the caller's and
what is not there have one answer.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.account.caller import Caller, unauthorized
from app.account.progress import Progress
from app.account.request_limits import RequestLimits
from app.account.serializers import Json, shown_session
from app.history.app_reader import Unreadable
from app.sessions.api_client.path_segment import InvalidId, path_segment
from app.sessions.bulk import ROUNDS, list_all
from app.sessions.lifecycle import is_active
from app.sessions.provider_session import ProviderSession
from app.sessions.session_provider import SessionProvider
from app.sessions.termination.record import Phase, Termination
from app.sessions.termination.terminations import Terminations
from app.web import params
from app.web.audit_log import AuditLog
from app.web.errors import ApiFault, not_found, redis_away
from app.web.provider_errors import as_answers
from app.web.resource import resource

# Sessions that one request ends; who has more asks again.
MOST_AT_ONCE = 100


def no_such_session() -> ApiFault:
    """Not there, or somebody else's."""
    return not_found("you have no session of this id")


class AccountSessionRoutes:
    """``providers`` are by the issuer's configured name."""

    def __init__(
        self,
        providers: Mapping[str, SessionProvider],
        endings: Terminations,
        progress: Progress,
        limits: RequestLimits,
        records: AuditLog,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._providers = providers
        self._endings = endings
        self._progress = progress
        self._limits = limits
        self._records = records
        self._clock = clock

    @property
    def routes(self) -> list[Route]:
        return [
            resource("/account/sessions", GET=self.list_sessions, DELETE=self.end_others),
            resource("/account/sessions/{session}", DELETE=self.end),
        ]

    async def list_sessions(self, request: Request) -> Response:
        """Those that are active, the current one first, then the one that was used last."""
        params.query(request, [])
        caller: Caller = request.scope["caller"]
        found = await self._active(caller, self._provider(caller))
        found.sort(key=lambda one: (one.id != caller.session.sid, -(_last(one))))
        own = caller.session.sid
        # In a thread: the rules for a user agent take some 10 ms for each that is new, and anybody
        # may have as many as they like. The logouts of all others go on meanwhile.
        return JSONResponse(
            await asyncio.to_thread(
                lambda: [shown_session(one, current=one.id == own) for one in found]
            )
        )

    async def end(self, request: Request) -> Response:
        """End one. Again, or from another tab: the same end, and how far it is."""
        params.query(request, [])
        caller: Caller = request.scope["caller"]
        self._limits.count_termination((caller.issuer.issuer, caller.sub))
        provider, session_id = self._provider(caller), session_in(request)
        known_at = self._clock()
        with as_answers():
            session = await provider.read(session_id, user_id=caller.sub)
        if session is not None and session.user_id != caller.sub:
            raise no_such_session()
        if caller.by_token and session_id != caller.session.sid:
            await self._current(caller, provider)
        if session is None or await self._is_left(caller, session):
            ending = await self._progress.of(caller, session_id)
        else:
            ending = await self._begin(caller, provider, session, request, known_at)
        return JSONResponse(await self._progress.shown(ending))

    async def end_others(self, request: Request) -> Response:
        """End all but the current one; nothing where that is none of the user's."""
        params.query(request, [])
        caller: Caller = request.scope["caller"]
        self._limits.count_termination((caller.issuer.issuer, caller.sub))
        provider, known_at = self._provider(caller), self._clock()
        sessions = await self._active(caller, provider)
        if caller.session.sid not in [one.id for one in sessions]:
            raise ApiFault(
                409, "current_session_unknown",
                "the provider does not know the session that asks, so none was ended",
            )  # fmt: skip
        endings: dict[str, Termination] = {}
        more = False
        try:
            for _ in range(ROUNDS):  # what begins while the others are ended ends, too
                others = [
                    one
                    for one in sessions
                    if one.id != caller.session.sid and one.id not in endings
                ]
                more = bool(others)
                if not others or len(endings) >= MOST_AT_ONCE:
                    break
                for one in others[: MOST_AT_ONCE - len(endings)]:
                    endings[one.id] = await self._begin(caller, provider, one, request, known_at)
                known_at, sessions = self._clock(), await self._active(caller, provider)
        except ApiFault:
            if not endings:
                raise
            more = True  # what has begun goes on, and is said; for the rest it is asked again
        # Without it the page asks for each of them.
        with contextlib.suppress(Unreadable):
            await self._endings.set_others(caller.issuer.issuer, caller.sub, list(endings))
        shown: list[Json] = [await self._progress.shown(one) for one in endings.values()]
        return JSONResponse({"sessions": shown, "more": more})

    # -- parts -----------------------------------------------------------------------------

    def _provider(self, caller: Caller) -> SessionProvider:
        provider = self._providers.get(caller.issuer.issuer)
        if provider is None:
            raise not_found("the issuer of this session has no session API in the settings")
        return provider

    async def _active(self, caller: Caller, provider: SessionProvider) -> list[ProviderSession]:
        with as_answers():
            found = await list_all(provider, caller.sub)
        now = self._clock()
        active = [one for one in found if one.user_id == caller.sub and is_active(one, now)]
        if caller.by_token and caller.session.sid not in [one.id for one in active]:
            raise unauthorized("this session has ended; sign in again", "session_ended")
        return [one for one in active if not await self._is_left(caller, one)]

    async def _is_left(self, caller: Caller, session: ProviderSession) -> bool:
        """Whether this is what an end has spared: refresh tokens, under the id of a session that is
        gone (Keycloak). To the user it has ended, and to end it again spares them again."""
        if not session.offline:
            return False
        try:
            ending = await self._endings.find(caller.issuer.issuer, session.id)
        except Unreadable as fault:
            raise redis_away() from fault
        return (
            ending is not None
            and ending.user == caller.sub
            and not ending.refresh_tokens
            and ending.phase is not Phase.UNCONFIRMED
        )

    async def _current(self, caller: Caller, provider: SessionProvider) -> None:
        """An access token outlives its session; nothing in an app does here. Raises `ApiFault`."""
        with as_answers():
            own = await provider.read(caller.session.sid or "", user_id=caller.sub)
        if own is None or own.user_id != caller.sub or not is_active(own, self._clock()):
            raise unauthorized("this session has ended; sign in again", "session_ended")

    async def _begin(
        self,
        caller: Caller,
        provider: SessionProvider,
        session: ProviderSession,
        request: Request,
        known_at: float,
    ) -> Termination:
        try:
            with as_answers():
                ending = await self._endings.begin(
                    provider, session, known_at=known_at, who=caller.who
                )
        except Unreadable as fault:
            raise redis_away() from fault
        await self._records.act(
            "account.session.end", request, outcome=ending.phase.value,
            iss=caller.issuer.issuer, apps=ending.apps, sid=session.id, sub=caller.sub,
        )  # fmt: skip
        return ending


def session_in(request: Request) -> str:
    """The path's id, if it can be one. Raises `ApiFault`, as for one that is not there."""
    value = params.segment(request, "session")
    try:
        path_segment(value)
    except InvalidId:
        raise no_such_session() from None
    return value


def _last(session: ProviderSession) -> float:
    known = (session.last_seen_at, session.authenticated_at, session.created_at)
    return next((at for at in known if at is not None), 0.0)
