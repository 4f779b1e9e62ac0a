"""When a provider's session ends, and whether it has: pure, for every provider alike.

A session ends at the earliest of: the provider says so, its idle limit (counted from the last
activity), its absolute limit (counted from the login). At the moment itself it has ended.
"""

from dataclasses import replace
from enum import StrEnum

from app.sessions.provider_session import Lifetimes, ProviderSession


class SessionState(StrEnum):
    """What has become of a session."""

    ACTIVE = "active"
    ENDED = "ended"
    """The provider no longer knows it, or says that it was ended."""
    IDLE = "idle"
    """It was not used for too long."""
    EXPIRED = "expired"
    """Its absolute limit has passed."""


def ends_at(session: ProviderSession) -> float | None:
    """When it will end if nobody uses or ends it, in epoch seconds; None: no limit is known."""
    known = [at for at in (session.idle_expires_at, session.expires_at) if at is not None]
    return min(known, default=None)


def state(session: ProviderSession | None, now: float) -> SessionState:
    """What has become of it at ``now``; None is a session that the provider does not know.

    Where several limits have passed, the one that passed first.
    """
    if session is None:
        return SessionState.ENDED
    end = ends_at(session)
    if end is not None and end <= now:
        return SessionState.EXPIRED if end == session.expires_at else SessionState.IDLE
    return SessionState.ACTIVE if session.active else SessionState.ENDED


def is_active(session: ProviderSession | None, now: float) -> bool:
    """Whether its user can still sign in with it. Never true of an unknown session."""
    return state(session, now) is SessionState.ACTIVE


def has_ended(session: ProviderSession | None, *, refresh_tokens: bool) -> bool:
    """Whether what an end was to end is over, as the provider says; ``session`` is what is read
    afterwards.

    ``refresh_tokens``: they were to end, too. Where they were not, what may be left of a session
    are the refresh tokens that live without it. A time that has passed by our clock ends nothing
    here: clocks differ, and some ends are only our conclusion (see `with_lifetimes`).
    """
    if session is None or not session.active:
        return True
    return session.offline and not refresh_tokens


def with_lifetimes(session: ProviderSession, lifetimes: Lifetimes) -> ProviderSession:
    """The session with the ends that follow from the provider's limits, where it names none.

    An end that cannot be counted, because no beginning is known, stays unknown.
    """
    began = session.created_at if session.created_at is not None else session.authenticated_at
    seen = session.last_seen_at if session.last_seen_at is not None else began
    return replace(
        session,
        idle_expires_at=_or_after(session.idle_expires_at, seen, lifetimes.idle),
        expires_at=_or_after(session.expires_at, began, lifetimes.absolute),
    )


def outlive_markers(lifetimes: Lifetimes, max_session_age: float) -> bool:
    """Whether sessions can live longer than the markers that end them in the apps.

    ``max_session_age``, in seconds, is the app's own limit after its login. A session at the
    provider that lives longer than that only opens new sessions in the app, each with a login of
    its own; but where the app's limit was set by the provider's and not the other way round, an
    app session may still be presented when its marker has gone.
    """
    return lifetimes.absolute is None or lifetimes.absolute > max_session_age


def _or_after(known: float | None, since: float | None, length: float | None) -> float | None:
    if known is not None or since is None or length is None:
        return known
    return since + length
