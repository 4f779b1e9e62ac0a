"""When a provider's session ends, and whether it has ended. Pure; the same for every provider.

A session ends at the earliest of these: the provider ends it, its idle limit after the last
activity, its absolute limit after the login. At that very moment it has ended.
"""

from dataclasses import replace
from enum import StrEnum

from app.sessions.provider_session import Lifetimes, ProviderSession


class SessionState(StrEnum):
    """The state of a session."""

    ACTIVE = "active"
    ENDED = "ended"
    """The provider no longer knows it, or reports that it was ended."""
    IDLE = "idle"
    """It was unused for too long."""
    EXPIRED = "expired"
    """Its absolute limit has passed."""


def ends_at(session: ProviderSession) -> float | None:
    """When it will end unless it is used or ended before, in epoch seconds; None: unknown."""
    limits = [at for at in (session.idle_expires_at, session.expires_at) if at is not None]
    return min(limits, default=None)


def state(session: ProviderSession | None, now: float) -> SessionState:
    """Its state at ``now``. None is a session that the provider does not know.

    When several limits have passed, the first one counts.
    """
    if session is None:
        return SessionState.ENDED
    end = ends_at(session)
    if end is not None and end <= now:
        return SessionState.EXPIRED if end == session.expires_at else SessionState.IDLE
    return SessionState.ACTIVE if session.active else SessionState.ENDED


def is_active(session: ProviderSession | None, now: float) -> bool:
    """Whether its user can still sign in with it. Never true for an unknown session."""
    return state(session, now) is SessionState.ACTIVE


def has_ended(session: ProviderSession | None, *, refresh_tokens: bool) -> bool:
    """Whether the provider reports that what was to end is gone; ``session`` was read afterwards.

    ``refresh_tokens``: these were to end too. Otherwise an offline session may remain. A limit that
    has passed by our clock does not count: clocks differ, and some limits are only inferred (see
    `with_lifetimes`).
    """
    if session is None or not session.active:
        return True
    return session.offline and not refresh_tokens


def with_lifetimes(session: ProviderSession, lifetimes: Lifetimes) -> ProviderSession:
    """The session with limits inferred from the provider's lifetimes, unless it has its own.

    A limit without a known beginning stays unknown.
    """
    began = session.created_at if session.created_at is not None else session.authenticated_at
    seen = session.last_seen_at if session.last_seen_at is not None else began
    return replace(
        session,
        idle_expires_at=_known_or_after(session.idle_expires_at, seen, lifetimes.idle),
        expires_at=_known_or_after(session.expires_at, began, lifetimes.absolute),
    )


def outlive_markers(lifetimes: Lifetimes, max_session_age: float) -> bool:
    """Whether sessions can outlive the markers that end them in the apps.

    ``max_session_age``, in seconds, is the app's own limit after its login. A provider session that
    lives longer usually only opens new app sessions, each with its own login. But if the app's
    limit was derived from the provider's, an app session can be presented after its marker expired.
    """
    return lifetimes.absolute is None or lifetimes.absolute > max_session_age


def _known_or_after(known: float | None, since: float | None, length: float | None) -> float | None:
    if known is not None or since is None or length is None:
        return known
    return since + length
