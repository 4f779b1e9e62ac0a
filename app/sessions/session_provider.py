"""What every adapter can do, and how it fails.

An adapter is bound to one configured issuer. Ids are the provider's own: checked and encoded as
one path segment (see `segment`; `NotAnId` is raised for one that can be nobody's).

    ProviderFault(kind)     the question has no answer now, and nothing follows from that

"Not found" is no fault: it is the one way in which a provider says that a session is gone. What
is not allowed, limited, broken or slow says nothing about any session.
"""

from enum import StrEnum
from typing import Protocol

from app.sessions.provider_session import Lifetimes, ProviderSession, SessionPage


class FaultKind(StrEnum):
    """Why a provider gave no answer. Stable: log field, metric label and test id."""

    UNAUTHORIZED = "unauthorized"
    """Our credentials are not accepted (401, or the token endpoint refuses them)."""
    FORBIDDEN = "forbidden"
    """They are, but may not do this: a scope or a role is missing (403)."""
    LIMITED = "limited"
    """Too many requests (429); ``retry_after`` says when to come back."""
    UNAVAILABLE = "unavailable"
    """It can not be reached, is too slow, or says that it is broken (5xx)."""
    UNEXPECTED = "unexpected"
    """An answer that this API does not give, or one about something else than was asked."""


SENTENCES: dict[FaultKind, str] = {
    FaultKind.UNAUTHORIZED: "the provider does not accept the credentials of its session API",
    FaultKind.FORBIDDEN: "the credentials of the session API lack a scope or a role for this",
    FaultKind.LIMITED: "the provider limits how often its session API may be asked",
    FaultKind.UNAVAILABLE: "the provider's session API can not be reached or does not work now",
    FaultKind.UNEXPECTED: "the provider's session API gave an answer that can not be used",
}


class ProviderFault(Exception):
    """The provider did not answer the question. Nothing is known about the session."""

    def __init__(
        self, kind: FaultKind, detail: str = "", *, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind.value)
        self.kind = kind
        self.detail = detail
        """A stable code: ``http_500``, ``timeout``, ``wrong_user``. Nothing of the answer."""
        self.retry_after = retry_after
        """Seconds until it makes sense to ask again; only of ``limited``."""


class SessionProvider(Protocol):
    """The session management of one issuer. Every method may raise `ProviderFault`."""

    @property
    def issuer(self) -> str:
        """The configured name: ``iss``."""

    @property
    def kind(self) -> str:
        """``auth0``, ``kratos`` or ``keycloak``; also the source of revocations written for it."""

    @property
    def sends_logout_tokens(self) -> bool:
        """Whether it tells the apps by itself, at all. Kratos does not."""

    async def list(self, user_id: str, page: str | None = None) -> SessionPage:
        """A page of the user's sessions; no sessions where the user is unknown.

        ``page`` is `SessionPage.next` of the page before.
        """

    async def read(self, session_id: str, *, user_id: str | None = None) -> ProviderSession | None:
        """One session. None only where the provider itself says that there is none.

        ``user_id``, where it is known, spares a provider that finds sessions only by user
        (Keycloak) a search through all of them.
        """

    async def end(self, session_id: str, *, refresh_tokens: bool = False) -> bool:
        """End a session; with its refresh tokens where they would outlive it.

        True: the provider has taken it, and may still need a moment to carry it out. False: it
        knows no such session, which is as good. A session that is ``offline`` is nothing but its
        refresh tokens, and ends only with them.
        """

    async def end_all(
        self, user_id: str, *, refresh_tokens: bool = False
    ) -> tuple[ProviderSession, ...]:
        """End all sessions of a user; returns those that there were."""

    async def end_others(
        self, user_id: str, *, keep: str, refresh_tokens: bool = False
    ) -> tuple[ProviderSession, ...]:
        """End all sessions of a user but one; returns those that were to be ended.

        Where ``keep`` is none of the user's sessions, nothing is ended: `LookupError`. Who
        wants that wants `end_all`, and says so.
        """

    async def lifetimes(self) -> Lifetimes:
        """How long sessions live there: as the API tells it, else as documented."""
