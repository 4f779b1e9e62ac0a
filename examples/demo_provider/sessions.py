"""The users' sessions at the provider, in memory. `logout` ends them."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from starlette.requests import Request

# Auth0's values for a self-service tenant.
IDLE_SECONDS = 3 * 86400
ABSOLUTE_SECONDS = 30 * 86400


@dataclass(frozen=True, slots=True)
class RequestDevice:
    """The user agent and address of a request."""

    user_agent: str
    ip: str

    @classmethod
    def of(cls, request: Request) -> Self:
        # Shown on pages and stored with the session, so its length is bounded.
        user_agent = request.headers.get("user-agent", "")[:400]
        return cls(user_agent, request.client.host if request.client else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One browser in which a user signed in. ``id`` is the ``sid`` of tokens; epoch seconds."""

    id: str
    user_id: str
    created_at: float
    """Also the time of authentication: a new login is always a new session."""
    last_seen_at: float
    first_device: RequestDevice
    last_device: RequestDevice
    client_ids: tuple[str, ...] = ()
    """The clients that got an ID token of this session, and must get its logout token."""

    @property
    def idle_until(self) -> float:
        return self.last_seen_at + IDLE_SECONDS

    @property
    def ends_at(self) -> float:
        return self.created_at + ABSOLUTE_SECONDS


class Sessions:
    """All sessions. An expired session counts as absent."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def create(self, user_id: str, device: RequestDevice) -> Session:
        now = self._clock()
        session = Session(
            id=secrets.token_urlsafe(24),
            user_id=user_id,
            created_at=now,
            last_seen_at=now,
            first_device=device,
            last_device=device,
        )
        self._sessions[session.id] = session
        return session

    def find(self, session_id: str | None) -> Session | None:
        session = self._sessions.get(session_id or "")
        if session is not None and self._clock() >= min(session.idle_until, session.ends_at):
            self.remove(session.id)
            return None
        return session

    def of_user(self, user_id: str) -> list[Session]:
        """The user's sessions, the oldest first."""
        sessions = map(self.find, list(self._sessions))
        return [session for session in sessions if session and session.user_id == user_id]

    def seen(self, session_id: str | None, device: RequestDevice) -> Session | None:
        """Records a request of the session's browser."""
        session = self.find(session_id)
        if session is None:
            return None
        return self._put(replace(session, last_seen_at=self._clock(), last_device=device))

    def used_for(self, session_id: str, client_id: str) -> Session | None:
        """Records that a client gets an ID token; None if the session has ended."""
        session = self.find(session_id)
        if session is None or client_id in session.client_ids:
            return session
        return self._put(replace(session, client_ids=(*session.client_ids, client_id)))

    def remove(self, session_id: str) -> Session | None:
        return self._sessions.pop(session_id, None)

    def _put(self, session: Session) -> Session:
        self._sessions[session.id] = session
        return session
