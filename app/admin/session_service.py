"""What operators look at and do at the providers' session APIs: the same for API and console.

Each act is in the audit, and so is one that is refused or fails: its outcome is the fault's code.
Everything here raises `ApiFault`.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request

from app.history import History, Unreadable
from app.sessions.api_client.path_segment import InvalidId, path_segment
from app.sessions.bulk import ROUNDS, list_all
from app.sessions.provider_session import ProviderSession, SessionPage
from app.sessions.session_json import Json, session_json, termination_json
from app.sessions.session_provider import SessionProvider
from app.sessions.termination.record import Termination
from app.sessions.termination.terminations import Terminations
from app.web.audit_log import AuditLog
from app.web.errors import ApiFault, bad_request, not_found, redis_away
from app.web.provider_errors import as_answers

# Sessions of one user that one request ends; who has more asks again.
MOST_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class TerminationRequest:
    """What is asked of an end, beside whose: ``who`` asks and ``why``, for the audit."""

    refresh_tokens: bool
    who: str
    why: str | None


@dataclass(slots=True)
class UserTerminations:
    """The end of a user's sessions, of each and of all."""

    endings: list[Termination] = field(default_factory=list)
    of_user: Termination | None = None
    """Of all of them, where the provider ends them with one call."""
    more: bool = False
    """Whether there are more than are ended at once."""


class SessionService:
    """``providers`` are by the issuer's configured name: those that have a session API."""

    def __init__(
        self,
        providers: Mapping[str, SessionProvider],
        endings: Terminations,
        history: History,
        records: AuditLog,
    ) -> None:
        self.providers = providers
        self._endings = endings
        self._history = history
        self._records = records

    def provider(self, name: str | None) -> SessionProvider:
        """The one that is meant: by any name of its issuer where there are several."""
        if name is not None:
            issuer = self._history.issuers.get(name)
            provider = self.providers.get(issuer.issuer) if issuer is not None else None
            if provider is None:
                raise not_found("no issuer of this name has a session API in the settings")
            return provider
        if not self.providers:
            raise not_found("no issuer has a session API in the settings ([issuers.sessions])")
        if len(self.providers) > 1:
            raise bad_request("issuer is required: several issuers have a session API")
        return next(iter(self.providers.values()))

    # -- looks -----------------------------------------------------------------------------

    async def page(
        self, request: Request, provider: SessionProvider, user: str, page: str | None
    ) -> SessionPage:
        """A page of the user's sessions."""
        await self._records.look("sessions.list", request, iss=provider.issuer, sub=user)
        with as_answers():
            return await provider.list(user, page)

    def shown(self, session: ProviderSession) -> Json:
        """A session as of now."""
        return session_json(session, self._records.clock())

    async def watch(
        self, request: Request, provider: SessionProvider, session_id: str
    ) -> Termination | None:
        """How far the end of a session is; whoever watches it asks often, and is noted seldom."""
        await self._records.look_again(
            "session.state", request, iss=provider.issuer, sid=session_id
        )
        return await self.ending(provider, session_id)

    async def ending(self, provider: SessionProvider, session_id: str) -> Termination | None:
        """The end of a session; None where there is none, or it was days ago."""
        with _readable():
            return await self._endings.find(provider.issuer, session_id)

    async def termination_json(self, ending: Termination) -> Json:
        """How far it is, with each app's proof as of now."""
        return await termination_json(ending, self._history, self._endings.confirm_within)

    async def watch_of_user(
        self, request: Request, provider: SessionProvider, user: str
    ) -> Termination | None:
        """The newest end of all sessions of a user, as `watch` shows that of one session."""
        await self._records.look_again("session.state", request, iss=provider.issuer, sub=user)
        with _readable():
            return await self._endings.find_of_user(provider.issuer, user)

    # -- acts ------------------------------------------------------------------------------

    async def end(
        self,
        request: Request,
        provider: SessionProvider,
        session_id: str,
        order: TerminationRequest,
        *,
        user: str | None = None,
    ) -> tuple[Termination, bool]:
        """End one session: its ending, and whether there was anything left to end.

        ``user`` spares a provider that finds sessions by user (Keycloak) a search.
        """
        async with self._audited(request, order, iss=provider.issuer, sid=session_id, sub=user):
            known_at = self._records.clock()
            ending = await self.ending(provider, session_id)
            if ending is not None and ending.outcome is None:
                session: ProviderSession | None = ProviderSession(
                    id=session_id, issuer=ending.issuer, user_id=ending.user,
                    created_at=ending.created_at,
                )  # fmt: skip
            else:
                with as_answers():
                    session = await provider.read(session_id, user_id=user)
            if session is None:
                # Gone: as ended before, or by somebody else since we looked.
                ending = await self.ending(provider, session_id)
                if ending is None:
                    raise not_found("the provider knows no session of this id")
                return ending, False
            if session.offline and not order.refresh_tokens:
                # Perhaps what an end before this one was to spare.
                raise ApiFault(
                    409, "offline_session", "this session is nothing but refresh tokens: to end"
                    " them, say refresh_tokens=true",
                )  # fmt: skip
            return await self._begin(request, provider, session, order, known_at), True

    async def end_all(
        self,
        request: Request,
        provider: SessionProvider,
        user: str,
        order: TerminationRequest,
        *,
        keep: str | None = None,
    ) -> UserTerminations:
        """End all sessions of a user, or all but ``keep``.

        All of them end with the provider's one call, which also ends a session that begins while
        they are listed. No provider has such a call for all but one: those are listed again until
        no other one is there. Where there are more than `MOST_AT_ONCE`, the first of them end.
        """
        async with self._audited(request, order, iss=provider.issuer, sub=user):
            known_at = self._records.clock()
            with as_answers():
                sessions = await list_all(provider, user)
            if keep is not None and keep not in [one.id for one in sessions]:
                raise ApiFault(
                    409, "unknown_session", "the session of `except` is none of this user's; none"
                    " was ended",
                )  # fmt: skip
            found = UserTerminations()
            ended = [one for one in sessions if one.id != keep]
            if not ended:
                await self._records.act(
                    "session.end", request, outcome="nothing", who=order.who, why=order.why,
                    iss=provider.issuer, sub=user,
                )  # fmt: skip
            elif keep is None and len(ended) <= MOST_AT_ONCE:
                with _readable():
                    async with self._endings.all_of_user(
                        provider, user,
                        refresh_tokens=order.refresh_tokens, who=order.who, why=order.why,
                    ) as found.of_user:  # fmt: skip
                        await self._begin_each(request, provider, ended, order, known_at, found)
            else:
                await self._begin_each(request, provider, ended, order, known_at, found)
                await self._begin_new(request, provider, user, order, keep, found)
            return found

    async def _begin_new(
        self,
        request: Request,
        provider: SessionProvider,
        user: str,
        order: TerminationRequest,
        keep: str | None,
        found: UserTerminations,
    ) -> None:
        """End the sessions as well that began while the others were listed and ended."""
        for _ in range(ROUNDS):
            if found.more:
                return
            known_at, begun = self._records.clock(), {one.session for one in found.endings}
            try:
                with as_answers():
                    listed = await list_all(provider, user)
            except ApiFault:
                found.more = True  # nobody knows
                return
            new = [one for one in listed if one.id != keep and one.id not in begun]
            if not new:
                return
            await self._begin_each(request, provider, new, order, known_at, found)
        found.more = True

    async def _begin_each(
        self,
        request: Request,
        provider: SessionProvider,
        sessions: Sequence[ProviderSession],
        order: TerminationRequest,
        known_at: float,
        found: UserTerminations,
    ) -> None:
        """Begin to end each of them, as far as there is room in ``found``."""
        room, total = MOST_AT_ONCE - len(found.endings), len(found.endings) + len(sessions)
        found.more = len(sessions) > room
        for one in sessions[:room]:
            try:
                ending = await self._begin(request, provider, one, order, known_at, found.of_user)
            except ApiFault as fault:
                if found.of_user is not None:
                    fault.sentence = (
                        "all sessions of the user end, and are followed; then it failed: ask again"
                        " to see how far each is"
                    )
                elif found.endings:
                    # What is said of one alone, that nothing was done, is not true of all.
                    fault.sentence = (
                        f"{len(found.endings)} of {total} sessions end, and are followed; then"
                        " it failed: ask again for the others"
                    )
                raise
            found.endings.append(ending)

    async def _begin(
        self,
        request: Request,
        provider: SessionProvider,
        session: ProviderSession,
        order: TerminationRequest,
        known_at: float,
        of_user: Termination | None = None,
    ) -> Termination:
        with _readable(), as_answers():
            ending = await self._endings.begin(
                provider, session, known_at=known_at, refresh_tokens=order.refresh_tokens,
                who=order.who, why=order.why, user_termination=of_user,
            )  # fmt: skip
        await self._records.act(
            "session.end", request, outcome=ending.phase.value, who=order.who, why=order.why,
            iss=provider.issuer, apps=ending.apps, sid=session.id, sub=session.user_id,
        )  # fmt: skip
        return ending

    @contextlib.asynccontextmanager
    async def _audited(
        self, request: Request, order: TerminationRequest, **whose: str | None
    ) -> AsyncIterator[None]:
        """An end that is refused, or fails, is an act as well."""
        try:
            yield
        except ApiFault as fault:
            await self._records.act(
                "session.end", request, outcome=fault.code, who=order.who, why=order.why, **whose
            )
            raise


def provider_id(value: str) -> str:
    """An id that a provider could have. Raises `ApiFault`."""
    try:
        path_segment(value)
    except InvalidId as fault:
        raise bad_request(f"{fault}") from None
    return value


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except Unreadable as fault:
        raise redis_away() from fault
