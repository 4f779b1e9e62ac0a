"""Lists and ends sessions at the providers, for the admin API and the console.

Each act is audited, including one that is refused or fails: its outcome is the error's code.
Everything here raises `ApiError`.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request

from app.history import History
from app.sessions.bulk import ROUNDS, list_all
from app.sessions.provider_session import ProviderSession, SessionPage
from app.sessions.session_provider import SessionProvider
from app.sessions.termination.termination import Termination
from app.sessions.termination.terminations import Terminations
from app.web.audit_log import AuditLog
from app.web.errors import ApiError, bad_request, not_found, readable_redis
from app.web.provider_errors import translated_faults
from app.web.session_models import (
    SessionModel,
    TerminationModel,
    session_model,
    termination_model,
)

# Sessions of one user that one request ends; the rest needs another request.
MAX_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class TerminationOptions:
    """How to end sessions; ``who`` requested it and ``why``, for the audit."""

    refresh_tokens: bool
    who: str
    why: str | None


@dataclass(slots=True)
class UserTerminations:
    """The terminations of a user's sessions."""

    terminations: list[Termination] = field(default_factory=list)
    of_user: Termination | None = None
    """Of all of them, if the provider ends them with one call."""
    more: bool = False
    """Whether further sessions are left."""


@dataclass(frozen=True, slots=True)
class SessionService:
    """``providers`` holds the issuers that have a session API, by their configured name."""

    providers: Mapping[str, SessionProvider]
    terminations: Terminations
    history: History
    audit_log: AuditLog

    def provider(self, name: str | None) -> SessionProvider:
        """The provider by any name of its issuer; the name is optional if there is only one."""
        if name is not None:
            issuer = self.history.issuers.get(name)
            provider = self.providers.get(issuer.issuer) if issuer is not None else None
            if provider is None:
                raise not_found("no issuer of this name has a session API in the settings")
            return provider
        if not self.providers:
            raise not_found("no issuer has a session API in the settings ([issuers.sessions])")
        if len(self.providers) > 1:
            raise bad_request("issuer is required: several issuers have a session API")
        return next(iter(self.providers.values()))

    # -- views -----------------------------------------------------------------------------

    async def page(
        self, request: Request, provider: SessionProvider, user: str, page: str | None
    ) -> SessionPage:
        """A page of the user's sessions."""
        await self.audit_log.record_view("sessions.list", request, iss=provider.issuer, sub=user)
        with translated_faults():
            return await provider.list(user, page)

    async def watch(
        self, request: Request, provider: SessionProvider, session_id: str
    ) -> Termination | None:
        """`find`, audited once in ten minutes, because clients poll it."""
        await self.audit_log.record_repeated_view(
            "session.state", request, iss=provider.issuer, sid=session_id
        )
        return await self.find(provider, session_id)

    async def watch_of_user(
        self, request: Request, provider: SessionProvider, user: str
    ) -> Termination | None:
        """The newest termination of all sessions of a user, audited like `watch`."""
        await self.audit_log.record_repeated_view(
            "session.state", request, iss=provider.issuer, sub=user
        )
        with readable_redis():
            return await self.terminations.records.newest_of(provider.issuer, user)

    async def find(self, provider: SessionProvider, session_id: str) -> Termination | None:
        """The termination of a session; None if there is none, or it was days ago."""
        with readable_redis():
            return await self.terminations.find(provider.issuer, session_id)

    def session_model(self, session: ProviderSession) -> SessionModel:
        return session_model(session, time.time())

    async def termination_model(self, termination: Termination) -> TerminationModel:
        return await termination_model(termination, self.history, self.terminations.confirm_within)

    # -- acts ------------------------------------------------------------------------------

    async def end(
        self,
        request: Request,
        provider: SessionProvider,
        session_id: str,
        options: TerminationOptions,
        *,
        user: str | None = None,
    ) -> tuple[Termination, bool]:
        """End one session. Returns its termination, and whether there was anything left to end.

        ``user`` saves providers that find sessions by user (Keycloak) a search.
        """
        async with self._audited(request, options, iss=provider.issuer, sid=session_id, sub=user):
            known_at = time.time()
            termination = await self.find(provider, session_id)
            if termination is not None and termination.outcome is None:
                session: ProviderSession | None = ProviderSession(
                    id=session_id, issuer=termination.issuer, user_id=termination.user,
                    created_at=termination.created_at,
                )  # fmt: skip
            else:
                with translated_faults():
                    session = await provider.read(session_id, user_id=user)
            if session is None:
                # Ended before, or by another request in the meantime.
                termination = await self.find(provider, session_id)
                if termination is None:
                    raise not_found("the provider knows no session of this id")
                return termination, False
            if session.offline and not options.refresh_tokens:
                # Perhaps these are the tokens that an earlier termination was to spare.
                raise ApiError(
                    409, "offline_session", "this session is nothing but refresh tokens: to end"
                    " them, say refresh_tokens=true",
                )  # fmt: skip
            return await self._begin(request, provider, session, options, known_at), True

    async def end_all(
        self,
        request: Request,
        provider: SessionProvider,
        user: str,
        options: TerminationOptions,
        *,
        keep: str | None = None,
    ) -> UserTerminations:
        """End all sessions of a user, or all but ``keep``.

        The provider ends all of them with one call, including sessions that begin meanwhile. No
        provider has such a call for all but one: those are listed again until none is left. Of
        more than `MAX_AT_ONCE` sessions, only the first ones end.
        """
        async with self._audited(request, options, iss=provider.issuer, sub=user):
            known_at = time.time()
            with translated_faults():
                sessions = await list_all(provider, user)
            if keep is not None and keep not in [session.id for session in sessions]:
                raise ApiError(
                    409, "unknown_session", "the session of `except` is none of this user's; none"
                    " was ended",
                )  # fmt: skip
            result = UserTerminations()
            others = [session for session in sessions if session.id != keep]
            if not others:
                await self.audit_log.record_act(
                    "session.end", request, outcome="nothing", who=options.who, why=options.why,
                    iss=provider.issuer, sub=user,
                )  # fmt: skip
            elif keep is None and len(others) <= MAX_AT_ONCE:
                with readable_redis():
                    async with self.terminations.all_of_user(
                        provider, user,
                        refresh_tokens=options.refresh_tokens, who=options.who, why=options.why,
                    ) as result.of_user:  # fmt: skip
                        await self._begin_each(request, provider, others, options, known_at, result)
            else:
                await self._begin_each(request, provider, others, options, known_at, result)
                await self._begin_new(request, provider, user, options, keep, result)
            return result

    async def _begin_new(
        self,
        request: Request,
        provider: SessionProvider,
        user: str,
        options: TerminationOptions,
        keep: str | None,
        result: UserTerminations,
    ) -> None:
        """Also end the sessions that began while the others were listed and ended."""
        for _ in range(ROUNDS):
            if result.more:
                return
            known_at = time.time()
            begun = {termination.session for termination in result.terminations}
            try:
                with translated_faults():
                    sessions = await list_all(provider, user)
            except ApiError:
                result.more = True  # unknown, so another request is needed
                return
            new = [session for session in sessions if session.id not in {keep, *begun}]
            if not new:
                return
            await self._begin_each(request, provider, new, options, known_at, result)
        result.more = True

    async def _begin_each(
        self,
        request: Request,
        provider: SessionProvider,
        sessions: Sequence[ProviderSession],
        options: TerminationOptions,
        known_at: float,
        result: UserTerminations,
    ) -> None:
        """Begin to end each of them, up to `MAX_AT_ONCE` in total."""
        begun = result.terminations
        room, total = MAX_AT_ONCE - len(begun), len(begun) + len(sessions)
        result.more = len(sessions) > room
        for session in sessions[:room]:
            try:
                termination = await self._begin(
                    request, provider, session, options, known_at, result.of_user
                )
            except ApiError as error:
                # The sentence about one session, that nothing was done, does not hold for all.
                if result.of_user is not None:
                    error.sentence = (
                        "all sessions of the user end, and are followed; then it failed: ask again"
                        " to see how far each is"
                    )
                elif begun:
                    error.sentence = (
                        f"{len(begun)} of {total} sessions end, and are followed; then"
                        " it failed: ask again for the others"
                    )
                raise
            begun.append(termination)

    async def _begin(
        self,
        request: Request,
        provider: SessionProvider,
        session: ProviderSession,
        options: TerminationOptions,
        known_at: float,
        of_user: Termination | None = None,
    ) -> Termination:
        with readable_redis(), translated_faults():
            termination = await self.terminations.begin(
                provider, session, known_at=known_at, refresh_tokens=options.refresh_tokens,
                who=options.who, why=options.why, user_termination=of_user,
            )  # fmt: skip
        await self.audit_log.record_act(
            "session.end", request, outcome=termination.phase.value, who=options.who,
            why=options.why, iss=provider.issuer, apps=termination.apps,
            sid=session.id, sub=session.user_id,
        )  # fmt: skip
        return termination

    @contextlib.asynccontextmanager
    async def _audited(
        self, request: Request, options: TerminationOptions, **subject: str | None
    ) -> AsyncIterator[None]:
        """Record a termination that is refused or fails as an act, too."""
        try:
            yield
        except ApiError as error:
            await self.audit_log.record_act(
                "session.end", request,
                outcome=error.code, who=options.who, why=options.why, **subject,
            )  # fmt: skip
            raise
