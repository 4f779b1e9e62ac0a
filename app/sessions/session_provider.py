"""The protocol that every provider's adapter implements, and how its calls fail.

An adapter is bound to one configured issuer. Ids are the provider's own, checked and encoded as one
path segment; an id that no session can have raises `path_segment.InvalidId`.

`ProviderFault` means that the provider gave no usable answer. Nothing follows from it: a call that
is forbidden, rate-limited, broken or slow says nothing about any session. "Not found" is not a
fault but the provider's statement that a session is gone.
"""

from enum import StrEnum
from typing import Protocol

from app.sessions.provider_session import Lifetimes, ProviderSession, SessionPage


class FaultKind(StrEnum):
    """Why a call failed. Stable: log field, metric label and test id."""

    UNAUTHORIZED = "unauthorized"
    """The API or the token endpoint rejects our credentials."""
    FORBIDDEN = "forbidden"
    """The credentials lack a scope or a role (403)."""
    LIMITED = "limited"
    """Too many requests (429); see ``retry_after``."""
    UNAVAILABLE = "unavailable"
    """Unreachable, too slow, or failing (5xx)."""
    UNEXPECTED = "unexpected"
    """An answer that this API does not give, or one about something else."""


SENTENCES: dict[FaultKind, str] = {
    FaultKind.UNAUTHORIZED: "the provider does not accept the credentials of its session API",
    FaultKind.FORBIDDEN: "the credentials of the session API lack a scope or a role for this",
    FaultKind.LIMITED: "the provider limits how often its session API may be asked",
    FaultKind.UNAVAILABLE: "the provider's session API cannot be reached or does not work now",
    FaultKind.UNEXPECTED: "the provider's session API gave an answer that cannot be used",
}


class ProviderFault(Exception):
    """The provider gave no usable answer. Nothing is known about the session."""

    def __init__(
        self, kind: FaultKind, detail: str = "", *, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind.value)
        self.kind = kind
        self.detail = detail
        """A stable code such as ``http_500`` or ``wrong_user``; never text of the response."""
        self.retry_after = retry_after
        """Seconds until a retry makes sense; only for ``limited``."""


class SessionProvider(Protocol):
    """The session management of one issuer. Every method can raise `ProviderFault`."""

    issuer: str
    """The configured name: ``iss``."""
    kind: str
    """``auth0``, ``kratos`` or ``keycloak``; also the source of revocations written for it."""
    sends_logout_tokens: bool
    """Whether the provider sends any. Kratos does not."""

    async def list(self, user_id: str, page: str | None = None) -> SessionPage:
        """List a page of the user's sessions; an unknown user has none.

        ``page`` is `SessionPage.next` of the previous page.
        """

    async def read(self, session_id: str, *, user_id: str | None = None) -> ProviderSession | None:
        """Read one session; None only when the provider itself reports that it does not exist.

        ``user_id`` saves a provider that finds sessions only by user (Keycloak) from searching all
        of them.
        """

    async def end(self, session_id: str, *, refresh_tokens: bool = False) -> bool:
        """End a session, and its refresh tokens if they would outlive it.

        True: the provider accepted the request, and may take a moment to carry it out. False: it
        knows no such session, which is just as good. A session that is ``offline`` consists of its
        refresh tokens and ends only with them.
        """

    async def end_all(
        self, user_id: str, *, refresh_tokens: bool = False
    ) -> tuple[ProviderSession, ...]:
        """End all sessions of a user; returns those that existed."""

    async def lifetimes(self) -> Lifetimes:
        """How long sessions live, from the API if it says so, else from the documentation."""
