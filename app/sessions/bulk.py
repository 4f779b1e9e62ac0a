"""All sessions of a user: through every page, and ended one by one."""

from collections.abc import Iterable

from app.sessions.provider_session import ProviderSession
from app.sessions.session_provider import FaultKind, ProviderFault, SessionProvider

# A user with more sessions than that is a robot, or the pages never end.
MAX_PAGES = 50
MAX_SESSIONS = 2000

# How often the sessions of a user are listed again while they are ended one by one: after so many
# rounds, somebody signs in all the time.
ROUNDS = 3


async def list_all(provider: SessionProvider, user_id: str) -> tuple[ProviderSession, ...]:
    """Every session of the user, each once. Raises `ProviderFault`.

    Ended is only what was listed before: pages that are counted by place move when one ends.
    """
    found: dict[str, ProviderSession] = {}
    page, asked = None, set[str]()
    for _ in range(MAX_PAGES):
        answer = await provider.list(user_id, page)
        found |= {session.id: session for session in answer.sessions}
        page = answer.next
        if page is None:
            return tuple(found.values())
        if page in asked or len(found) > MAX_SESSIONS:
            break
        asked.add(page)
    raise ProviderFault(FaultKind.UNEXPECTED, "endless_pages")


async def end_each(
    provider: SessionProvider, sessions: Iterable[ProviderSession], *, refresh_tokens: bool
) -> None:
    """End them one after the other.

    Where it fails in the middle, some have ended: to begin anew ends the others.
    """
    for session in sessions:
        await provider.end(session.id, refresh_tokens=refresh_tokens)


async def list_others(
    provider: SessionProvider, user_id: str, keep: str
) -> tuple[ProviderSession, ...]:
    """The user's sessions but ``keep``. `LookupError` when that is none of them."""
    sessions = await list_all(provider, user_id)
    if all(session.id != keep for session in sessions):
        raise LookupError("the session to keep is none of the user's")
    return tuple(session for session in sessions if session.id != keep)


def check_owner(
    sessions: Iterable[ProviderSession], *, user_id: str
) -> tuple[ProviderSession, ...]:
    """The sessions, if they are the user's. Raises `ProviderFault` (unexpected).

    A list of somebody else's sessions must never be shown, nor ended.
    """
    found = tuple(sessions)
    if any(session.user_id != user_id for session in found):
        raise ProviderFault(FaultKind.UNEXPECTED, "wrong_user")
    return found


def check_id(session: ProviderSession, *, session_id: str) -> ProviderSession:
    """The session, if it is the one that was asked for. Raises `ProviderFault` (unexpected)."""
    if session.id != session_id:
        raise ProviderFault(FaultKind.UNEXPECTED, "wrong_session")
    return session
