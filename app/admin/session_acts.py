"""What operators look at and do at the providers' session APIs: the same for API and console.

Each act is in the audit, and so is one that is refused or fails: its outcome is the fault's code.
Everything here raises `ApiFault`.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request

from app.history import History, Unreadable
from app.sessions.bulk import sessions_of
from app.sessions.ending import Ending
from app.sessions.endings import Endings
from app.sessions.interface import SessionProvider
from app.sessions.model import Page, ProviderSession
from app.sessions.segment import NotAnId, segment

from .faults import ApiFault, bad_request, not_found, redis_away
from .provider_faults import as_answers
from .records import Records
from .showing import Json, shown_ending, shown_session

# Sessions of one user that one request ends; who has more asks again.
MOST_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of an end, beside whose: ``who`` asks and ``why``, for the audit."""

    refresh_tokens: bool
    who: str
    why: str | None


class SessionActs:
    """``providers`` are by the issuer's configured name: those that have a session API."""

    def __init__(
        self,
        providers: Mapping[str, SessionProvider],
        endings: Endings,
        history: History,
        records: Records,
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
    ) -> Page:
        """A page of the user's sessions."""
        await self._records.look("sessions.list", request, iss=provider.issuer, sub=user)
        with as_answers():
            return await provider.list(user, page)

    def shown(self, session: ProviderSession) -> Json:
        """A session as of now."""
        return shown_session(session, self._records.clock())

    async def watch(
        self, request: Request, provider: SessionProvider, session_id: str
    ) -> Ending | None:
        """How far the end of a session is; whoever watches it asks often, and is noted seldom."""
        await self._records.look_again(
            "session.state", request, iss=provider.issuer, sid=session_id
        )
        return await self.ending(provider, session_id)

    async def ending(self, provider: SessionProvider, session_id: str) -> Ending | None:
        """The end of a session; None where there is none, or it was days ago."""
        with _readable():
            return await self._endings.find(provider.issuer, session_id)

    async def shown_ending(self, ending: Ending) -> Json:
        """How far it is, with each app's proof as of now."""
        return await shown_ending(ending, self._history, self._endings.confirm_within)

    # -- acts ------------------------------------------------------------------------------

    async def end(
        self,
        request: Request,
        provider: SessionProvider,
        session_id: str,
        order: Order,
        *,
        user: str | None = None,
    ) -> tuple[Ending, bool]:
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
        order: Order,
        *,
        keep: str | None = None,
    ) -> tuple[Sequence[Ending], bool]:
        """End all sessions of a user, or all but ``keep``: their endings, and whether there are
        more than are ended at once."""
        async with self._audited(request, order, iss=provider.issuer, sub=user):
            known_at = self._records.clock()
            with as_answers():
                sessions = await sessions_of(provider, user)
            if keep is not None and keep not in [one.id for one in sessions]:
                raise ApiFault(
                    409, "unknown_session", "the session of `except` is none of this user's; none"
                    " was ended",
                )  # fmt: skip
            ended = [one for one in sessions if one.id != keep]
            endings: list[Ending] = []
            for one in ended[:MOST_AT_ONCE]:
                try:
                    endings.append(await self._begin(request, provider, one, order, known_at))
                except ApiFault as fault:
                    if endings:
                        # What is said of one alone, that nothing was done, is not true of all.
                        fault.sentence = (
                            f"{len(endings)} of {len(ended)} sessions end, and are followed; then"
                            " it failed: ask again for the others"
                        )
                    raise
            if not endings:
                await self._records.act(
                    "session.end", request, outcome="nothing", who=order.who, why=order.why,
                    iss=provider.issuer, sub=user,
                )  # fmt: skip
            return endings, len(ended) > MOST_AT_ONCE

    async def _begin(
        self,
        request: Request,
        provider: SessionProvider,
        session: ProviderSession,
        order: Order,
        known_at: float,
    ) -> Ending:
        with _readable(), as_answers():
            ending = await self._endings.begin(
                provider, session, known_at=known_at,
                refresh_tokens=order.refresh_tokens, who=order.who, why=order.why,
            )  # fmt: skip
        await self._records.act(
            "session.end", request, outcome=ending.step.value, who=order.who, why=order.why,
            iss=provider.issuer, apps=ending.apps, sid=session.id, sub=session.user_id,
        )  # fmt: skip
        return ending

    @contextlib.asynccontextmanager
    async def _audited(
        self, request: Request, order: Order, **whose: str | None
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
        segment(value)
    except NotAnId as fault:
        raise bad_request(f"{fault}") from None
    return value


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except Unreadable as fault:
        raise redis_away() from fault
