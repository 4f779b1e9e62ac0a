"""The users' sessions at the provider, in memory. Ending one with its logouts: see `logout`."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from starlette.requests import Request

# What Auth0 gives a self-service tenant.
IDLE_SECONDS = 3 * 86400
ABSOLUTE_SECONDS = 30 * 86400


@dataclass(frozen=True, slots=True)
class Device:
    """What a request tells of where it came from."""

    user_agent: str
    ip: str

    @classmethod
    def of(cls, request: Request) -> Self:
        # Shown on pages and kept with the session: no longer than real ones are.
        user_agent = request.headers.get("user-agent", "")[:400]
        return cls(user_agent, request.client.host if request.client else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One browser in which a user signed in. ``id`` is the ``sid`` of tokens; epoch seconds."""

    id: str
    user_id: str
    created_at: float
    """Also when the user authenticated: a new login is always a new session."""
    last_seen_at: float
    first_device: Device
    last_device: Device
    client_ids: tuple[str, ...] = ()
    """The clients that got an ID token of this session: those that a logout must reach."""

    @property
    def idle_until(self) -> float:
        return self.last_seen_at + IDLE_SECONDS

    @property
    def ends_at(self) -> float:
        return self.created_at + ABSOLUTE_SECONDS


class Sessions:
    """All sessions. An expired one is as good as gone."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def create(self, user_id: str, device: Device) -> Session:
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
        found = [self.find(session_id) for session_id in list(self._sessions)]
        return [one for one in found if one is not None and one.user_id == user_id]

    def seen(self, session_id: str | None, device: Device) -> Session | None:
        """Note that the session's browser was here."""
        session = self.find(session_id)
        if session is None:
            return None
        return self._put(replace(session, last_seen_at=self._clock(), last_device=device))

    def used_for(self, session_id: str, client_id: str) -> Session | None:
        """Note that a client gets an ID token; None when the session has ended meanwhile."""
        session = self.find(session_id)
        if session is None or client_id in session.client_ids:
            return session
        return self._put(replace(session, client_ids=(*session.client_ids, client_id)))

    def remove(self, session_id: str) -> Session | None:
        return self._sessions.pop(session_id, None)

    def _put(self, session: Session) -> Session:
        self._sessions[session.id] = session
        return session
