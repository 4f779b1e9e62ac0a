"""`/account/sessions`: lists and ends the caller's own sessions.

Before anything is written, the provider confirms whose session it is. An unknown session and one
of another user get the same answer.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.account.caller import Caller, unauthorized
from app.account.progress import ProgressRoutes, no_such_session
from app.account.request_limits import RequestLimits
from app.account.responses import EndedOthers, account_session
from app.history.app_reader import Unreadable
from app.sessions.api_client.path_segment import InvalidId, path_segment
from app.sessions.bulk import ROUNDS, list_all
from app.sessions.lifecycle import is_active
from app.sessions.provider_session import ProviderSession
from app.sessions.session_provider import SessionProvider
from app.sessions.termination.termination import Phase, Termination
from app.sessions.termination.terminations import Terminations
from app.web import params
from app.web.audit_log import AuditLog
from app.web.errors import ApiError, not_found, readable_redis
from app.web.json_api import json_response
from app.web.provider_errors import translated_faults
from app.web.resource import resource

# Sessions that one request ends; the rest needs another request.
MAX_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class AccountSessionRoutes:
    """``providers`` are by the issuer's configured name."""

    providers: Mapping[str, SessionProvider]
    terminations: Terminations
    progress: ProgressRoutes
    limits: RequestLimits
    audit_log: AuditLog

    @property
    def routes(self) -> list[Route]:
        return [
            resource("/account/sessions", GET=self.list_sessions, DELETE=self.end_others),
            resource("/account/sessions/{session}", DELETE=self.end),
        ]

    async def list_sessions(self, request: Request) -> Response:
        """The active sessions: the current one first, then by last use."""
        params.query(request, [])
        caller: Caller = request.scope["caller"]
        own, sessions = caller.session.sid, await self._active(caller, self._provider(caller))
        sessions.sort(key=lambda session: (session.id != own, -_last_used(session)))
        # In a thread: parsing a new user agent takes some 10 ms, and a user may have any number of
        # them. Meanwhile the event loop serves logouts.
        return json_response(
            await asyncio.to_thread(
                lambda: [account_session(each, current=each.id == own) for each in sessions]
            )
        )

    async def end(self, request: Request) -> Response:
        """End one session. Repeated, it returns the progress of the same termination."""
        params.query(request, [])
        caller: Caller = request.scope["caller"]
        self.limits.count_termination((caller.issuer.issuer, caller.sub))
        provider, session_id = self._provider(caller), _session_id(request)
        known_at = time.time()
        with translated_faults():
            session = await provider.read(session_id, user_id=caller.sub)
        if session is not None and session.user_id != caller.sub:
            raise no_such_session()
        if caller.by_token and session_id != caller.session.sid:
            await self._check_current(caller, provider)
        if session is None or await self._is_remnant(caller, session):
            termination = await self.progress.find(caller, session_id)
        else:
            termination = await self._begin(caller, provider, session, request, known_at)
        return json_response(await self.progress.progress(termination))

    async def end_others(self, request: Request) -> Response:
        """End all sessions but the current one; none if the provider does not know that one."""
        params.query(request, [])
        caller: Caller = request.scope["caller"]
        self.limits.count_termination((caller.issuer.issuer, caller.sub))
        provider, known_at = self._provider(caller), time.time()
        sessions = await self._active(caller, provider)
        if caller.session.sid not in [session.id for session in sessions]:
            raise ApiError(
                409, "current_session_unknown",
                "the provider does not know the session that asks, so none was ended",
            )  # fmt: skip
        begun: dict[str, Termination] = {}
        more = False
        try:
            for _ in range(ROUNDS):  # also ends sessions that begin meanwhile
                others = [each for each in sessions if each.id not in {caller.session.sid, *begun}]
                more = bool(others)
                if not others or len(begun) >= MAX_AT_ONCE:
                    break
                for each in others[: MAX_AT_ONCE - len(begun)]:
                    begun[each.id] = await self._begin(caller, provider, each, request, known_at)
                known_at, sessions = time.time(), await self._active(caller, provider)
        except ApiError:
            if not begun:
                raise
            more = True  # report what has begun; another request ends the rest
        # Without this note the page polls each session.
        with contextlib.suppress(Unreadable):
            await self.terminations.records.set_others(
                caller.issuer.issuer, caller.sub, list(begun)
            )
        progress = [await self.progress.progress(each) for each in begun.values()]
        return json_response(EndedOthers(sessions=progress, more=more))

    # -- parts -----------------------------------------------------------------------------

    def _provider(self, caller: Caller) -> SessionProvider:
        provider = self.providers.get(caller.issuer.issuer)
        if provider is None:
            raise not_found("the issuer of this session has no session API in the settings")
        return provider

    async def _active(self, caller: Caller, provider: SessionProvider) -> list[ProviderSession]:
        with translated_faults():
            sessions = await list_all(provider, caller.sub)
        now = time.time()
        active = [each for each in sessions if each.user_id == caller.sub and is_active(each, now)]
        if caller.by_token and caller.session.sid not in [session.id for session in active]:
            raise unauthorized("this session has ended; sign in again", "session_ended")
        return [session for session in active if not await self._is_remnant(caller, session)]

    async def _is_remnant(self, caller: Caller, session: ProviderSession) -> bool:
        """Whether only the refresh tokens that a termination spared are left (Keycloak keeps the
        session's id). For the user it has ended, and ending it again would spare them again."""
        if not session.offline:
            return False
        with readable_redis():
            termination = await self.terminations.find(caller.issuer.issuer, session.id)
        return (
            termination is not None
            and termination.user == caller.sub
            and not termination.refresh_tokens
            and termination.phase is not Phase.UNCONFIRMED
        )

    async def _check_current(self, caller: Caller, provider: SessionProvider) -> None:
        """Raises `ApiError` if the caller's session has ended: an access token outlives it."""
        with translated_faults():
            own = await provider.read(caller.session.sid or "", user_id=caller.sub)
        if own is None or own.user_id != caller.sub or not is_active(own, time.time()):
            raise unauthorized("this session has ended; sign in again", "session_ended")

    async def _begin(
        self,
        caller: Caller,
        provider: SessionProvider,
        session: ProviderSession,
        request: Request,
        known_at: float,
    ) -> Termination:
        with readable_redis(), translated_faults():
            termination = await self.terminations.begin(
                provider, session, known_at=known_at, who=caller.who
            )
        await self.audit_log.record_act(
            "account.session.end", request, outcome=termination.phase.value,
            iss=caller.issuer.issuer, apps=termination.apps, sid=session.id, sub=caller.sub,
        )  # fmt: skip
        return termination


def _session_id(request: Request) -> str:
    """The id in the path. Raises `ApiError` as for an unknown session if no id looks like it."""
    value = params.path_id(request, "session")
    try:
        path_segment(value)
    except InvalidId:
        raise no_such_session() from None
    return value


def _last_used(session: ProviderSession) -> float:
    known = (session.last_seen_at, session.authenticated_at, session.created_at)
    return next((at for at in known if at is not None), 0.0)
