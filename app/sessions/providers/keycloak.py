"""Keycloak's Admin REST API, for one realm.

Roles of ``realm-management`` for the service account: ``view-users`` and ``manage-users``;
``view-realm`` for `lifetimes` and for the ends of sessions, and, with ``view-clients``, to find a
session whose user is not known.

Two kinds of session share their ids: those in a browser, and the offline sessions that refresh
tokens with ``offline_access`` live in. Of a pair the first is shown; an offline session that stands
alone is shown as one, and `end` ends it only with its refresh tokens, for there is nothing else.

"Sign out" of a user sends one logout token with one ``sid`` for several sessions (before the
releases of mid-2026): so each session is ended by its own id. It also makes all tokens of the user
void that were issued before, so it is only used where refresh tokens are to end as well.

Written from the source of Keycloak 26 (``UserResource``, ``RealmAdminResource``), and run against
it where it can be had.
"""

import re
import time
from collections.abc import AsyncIterator, Callable, Iterable

from app.sessions.api_client.calls import ApiResponse, Calls
from app.sessions.api_client.path_segment import path_segment
from app.sessions.api_client.shapes import matches, parse
from app.sessions.bulk import ROUNDS, check_owner, list_others
from app.sessions.lifecycle import with_lifetimes
from app.sessions.provider_session import Lifetimes, ProviderSession, SessionPage
from app.sessions.providers.keycloak_shapes import (
    ClientStats,
    Consent,
    KeycloakError,
    KeycloakSession,
    Realm,
)
from app.sessions.session_provider import FaultKind, ProviderFault

# A search through the sessions of all users ends here: it is a help, not a way to work.
SEARCH_PAGE, SEARCH_PAGES = 500, 20

# How long what the realm says of lifetimes is believed.
REALM_SECONDS = 600.0

# Keycloak has had a slip of the pen in the first for years.
_ITS_OWN = re.compile(r"(sess+ion|user) not found\b.*", re.IGNORECASE | re.DOTALL)


class Keycloak:
    """The sessions of one realm. ``calls`` ends before ``/admin/realms``."""

    kind = "keycloak"
    sends_logout_tokens = True

    def __init__(
        self,
        issuer: str,
        realm: str,
        calls: Calls,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.issuer = issuer
        self._calls = calls
        self._path = f"/admin/realms/{path_segment(realm)}"
        self._monotonic = monotonic
        self._realm: Realm | None = None
        self._realm_at = float("-inf")

    async def list(self, user_id: str, page: str | None = None) -> SessionPage:
        """All at once: Keycloak has no pages here."""
        del page
        online = await self._of_user(user_id, "sessions")
        offline = await self._offline_of_user(user_id)
        shown = {session.id: session for session in (*offline, *online)}
        return SessionPage(sessions=tuple(shown.values()))

    async def read(self, session_id: str, *, user_id: str | None = None) -> ProviderSession | None:
        path_segment(session_id)
        if user_id is None:
            return await self._search(session_id)
        online = await self._of_user(user_id, "sessions")
        found = _the_one(online, session_id)
        return found or _the_one(await self._offline_of_user(user_id), session_id)

    async def end(self, session_id: str, *, refresh_tokens: bool = False) -> bool:
        path = f"{self._path}/sessions/{path_segment(session_id)}"
        kinds = ("false", "true") if refresh_tokens else ("false",)
        ended = False
        for offline in kinds:
            params = {"isOffline": offline}
            answer = await self._calls.call("DELETE", path, expect={204, 404}, params=params)
            ended |= not _not_found(answer)
        return ended

    async def end_all(
        self, user_id: str, *, refresh_tokens: bool = False
    ) -> tuple[ProviderSession, ...]:
        ended: dict[str, ProviderSession] = {}
        for _ in range(ROUNDS):
            # Of one that has ended, refresh tokens that were to be spared may be left.
            listed = (await self.list(user_id)).sessions
            found = tuple(session for session in listed if session.id not in ended)
            if not found:
                break
            await self._end_each(found, refresh_tokens)
            ended |= {session.id: session for session in found}
        if refresh_tokens:
            path = f"{self._path}/users/{path_segment(user_id)}/logout"
            _not_found(await self._calls.call("POST", path, expect={204, 404}))
        return tuple(ended.values())

    async def end_others(
        self, user_id: str, *, keep: str, refresh_tokens: bool = False
    ) -> tuple[ProviderSession, ...]:
        others = await list_others(self, user_id, keep)
        await self._end_each(others, refresh_tokens)
        return others

    async def lifetimes(self) -> Lifetimes:
        """The realm's; Keycloak's defaults where the account may not see them."""
        return (await self._realm_or_defaults()).longest()

    # -- asking ---------------------------------------------------------------------------

    async def _end_each(self, sessions: Iterable[ProviderSession], refresh_tokens: bool) -> None:
        """Who asks for offline access at the login has an offline session alone: it ends, too."""
        for session in sessions:
            await self.end(session.id, refresh_tokens=refresh_tokens or session.offline)

    async def _of_user(self, user_id: str, which: str) -> tuple[ProviderSession, ...]:
        path = f"{self._path}/users/{path_segment(user_id)}/{which}"
        answer = await self._calls.call("GET", path, expect={200, 404})
        if _not_found(answer):
            return ()
        return check_owner(await self._sessions(answer, which != "sessions"), user_id=user_id)

    async def _offline_of_user(self, user_id: str) -> tuple[ProviderSession, ...]:
        """One call for each client that has an offline token of the user; mostly for none."""
        path = f"{self._path}/users/{path_segment(user_id)}/consents"
        answer = await self._calls.call("GET", path, expect={200, 404})
        if _not_found(answer):
            return ()
        found: dict[str, ProviderSession] = {}
        for consent in parse(tuple[Consent, ...], answer.body):
            for client in consent.offline_clients:
                of_client = await self._of_user(user_id, f"offline-sessions/{path_segment(client)}")
                found |= {session.id: session for session in of_client}
        return tuple(found.values())

    async def _search(self, session_id: str) -> ProviderSession | None:
        """Through the sessions of every client that has any."""
        path = f"{self._path}/client-session-stats"
        answer = await self._calls.call("GET", path, expect={200})
        stats = parse(tuple[ClientStats, ...], answer.body)
        for offline, which in ((False, "user-sessions"), (True, "offline-sessions")):
            clients = [one.id for one in stats if (one.offline if offline else one.active) > 0]
            for client in clients:
                async for sessions in self._pages(
                    f"clients/{path_segment(client)}/{which}", offline
                ):
                    if found := _the_one(sessions, session_id):
                        return found
        return None

    async def _pages(self, path: str, offline: bool) -> AsyncIterator[tuple[ProviderSession, ...]]:
        for number in range(SEARCH_PAGES):
            params = {"first": str(number * SEARCH_PAGE), "max": str(SEARCH_PAGE)}
            answer = await self._calls.call(
                "GET", f"{self._path}/{path}", expect={200}, params=params
            )
            sessions = await self._sessions(answer, offline)
            yield sessions
            if len(sessions) < SEARCH_PAGE:
                return
        # It may be on a page that was not asked for: that is not "gone".
        raise ProviderFault(FaultKind.UNEXPECTED, "too_many_sessions")

    async def _sessions(self, answer: ApiResponse, offline: bool) -> tuple[ProviderSession, ...]:
        shapes = parse(tuple[KeycloakSession, ...], answer.body)
        if not shapes or offline:
            return tuple(one.session(self.issuer, offline) for one in shapes)
        realm = await self._realm_or_defaults()
        return tuple(
            with_lifetimes(
                one.session(self.issuer, offline),
                realm.lifetimes(remember_me=one.rememberMe),
            )
            for one in shapes
        )

    async def _realm_or_defaults(self) -> Realm:
        """What the realm says of lifetimes. Without the role it says little, or 403."""
        if self._realm is None or self._monotonic() - self._realm_at > REALM_SECONDS:
            answer = await self._calls.call("GET", self._path, expect={200, 403})
            self._realm = Realm() if answer.status == 403 else parse(Realm, answer.body)
            self._realm_at = self._monotonic()
        return self._realm


def _the_one(sessions: tuple[ProviderSession, ...], session_id: str) -> ProviderSession | None:
    return next((one for one in sessions if one.id == session_id), None)


def _not_found(answer: ApiResponse) -> bool:
    """Whether Keycloak says so of a session or a user. Raises `ProviderFault` for another 404.

    A realm or a path that it does not know is a wrong setting, and says nothing of sessions.
    """
    if answer.status != 404:
        return False
    if matches(KeycloakError, answer.body) and _ITS_OWN.match(
        parse(KeycloakError, answer.body).error
    ):
        return True
    raise ProviderFault(FaultKind.UNEXPECTED, "http_404")
