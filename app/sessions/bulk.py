"""Lists all sessions of a user, through every page, and checks whose sessions were listed."""

from collections.abc import Iterable

from app.sessions.provider_session import ProviderSession
from app.sessions.session_provider import FaultKind, ProviderFault, SessionProvider

# More sessions than this belong to a bot, or the pages never end.
MAX_PAGES = 50
MAX_SESSIONS = 2000

# How often a user's sessions are listed again while they are ended one by one. After that, the user
# keeps signing in.
ROUNDS = 3


async def list_all(provider: SessionProvider, user_id: str) -> tuple[ProviderSession, ...]:
    """Every session of the user, each once. Raises `ProviderFault`.

    List before ending anything: numbered pages shift when a session ends.
    """
    sessions: dict[str, ProviderSession] = {}
    token, used = None, set[str]()
    for _ in range(MAX_PAGES):
        page = await provider.list(user_id, token)
        sessions |= {session.id: session for session in page.sessions}
        token = page.next
        if token is None:
            return tuple(sessions.values())
        if token in used or len(sessions) > MAX_SESSIONS:
            break
        used.add(token)
    raise ProviderFault(FaultKind.UNEXPECTED, "endless_pages")


def check_owner(
    sessions: Iterable[ProviderSession], *, user_id: str
) -> tuple[ProviderSession, ...]:
    """The sessions, if all are the user's. Raises `ProviderFault` (unexpected).

    Another user's sessions must never be shown or ended.
    """
    listed = tuple(sessions)
    if any(session.user_id != user_id for session in listed):
        raise ProviderFault(FaultKind.UNEXPECTED, "wrong_user")
    return listed


def check_id(session: ProviderSession, *, session_id: str) -> ProviderSession:
    """The session, if it has the requested id. Raises `ProviderFault` (unexpected)."""
    if session.id != session_id:
        raise ProviderFault(FaultKind.UNEXPECTED, "wrong_session")
    return session
