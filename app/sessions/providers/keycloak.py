"""The adapter for Keycloak's Admin REST API, for one realm.

Roles of ``realm-management`` for the service account: ``view-users`` and ``manage-users``;
``view-realm`` for `lifetimes` and the ends of sessions; ``view-realm`` and ``view-clients`` to find
a session whose user is unknown.

Browser sessions and the offline sessions of refresh tokens with ``offline_access`` share their ids.
Of a pair, the browser session is listed. An offline session alone is listed as such, and `end` ends
it only with its refresh tokens, because it has nothing else.

"Sign out" of a user sends one logout token with one ``sid`` for several sessions (before the
releases of mid-2026), so each session is ended by its own id. It also voids all tokens issued to
the user before, so it is used only when refresh tokens end too.

Written from the source of Keycloak 26 (``UserResource``, ``RealmAdminResource``) and tested against
it.
"""

import time
from collections.abc import AsyncIterator, Iterable

from app.sessions.api_client.calls import ApiResponse, Calls
from app.sessions.api_client.path_segment import path_segment
from app.sessions.api_client.shapes import is_not_found, parse
from app.sessions.bulk import ROUNDS, check_owner
from app.sessions.lifecycle import with_lifetimes
from app.sessions.provider_session import Lifetimes, ProviderSession, SessionPage
from app.sessions.providers.keycloak_shapes import (
    ClientStats,
    Consent,
    KeycloakNotFound,
    KeycloakSession,
    Realm,
)
from app.sessions.session_provider import FaultKind, ProviderFault

# The bound of a search through all users' sessions, which is a fallback.
SEARCH_PAGE, SEARCH_PAGES = 500, 20

# How long the realm's lifetimes are cached.
REALM_SECONDS = 600.0


class Keycloak:
    """The sessions of one realm. ``calls`` ends before ``/admin/realms``."""

    kind = "keycloak"
    sends_logout_tokens = True

    def __init__(self, issuer: str, realm: str, calls: Calls) -> None:
        self.issuer = issuer
        self._calls = calls
        self._path = f"/admin/realms/{path_segment(realm)}"
        self._realm: Realm | None = None
        self._realm_at = float("-inf")

    async def list(self, user_id: str, page: str | None = None) -> SessionPage:
        """All at once: Keycloak has no pages here."""
        del page
        online = await self._of_user(user_id, "sessions")
        offline = await self._offline_of_user(user_id)
        by_id = {session.id: session for session in (*offline, *online)}
        return SessionPage(sessions=tuple(by_id.values()))

    async def read(self, session_id: str, *, user_id: str | None = None) -> ProviderSession | None:
        path_segment(session_id)
        if user_id is None:
            return await self._search(session_id)
        online = await self._of_user(user_id, "sessions")
        return _find(online, session_id) or _find(await self._offline_of_user(user_id), session_id)

    async def end(self, session_id: str, *, refresh_tokens: bool = False) -> bool:
        path = f"{self._path}/sessions/{path_segment(session_id)}"
        kinds = ("false", "true") if refresh_tokens else ("false",)
        ended = False
        for offline in kinds:
            params = {"isOffline": offline}
            response = await self._calls.call("DELETE", path, expect={204, 404}, params=params)
            ended |= not _not_found(response)
        return ended

    async def end_all(
        self, user_id: str, *, refresh_tokens: bool = False
    ) -> tuple[ProviderSession, ...]:
        ended: dict[str, ProviderSession] = {}
        for _ in range(ROUNDS):
            # An ended session stays listed if its refresh tokens were to survive.
            listed = (await self.list(user_id)).sessions
            left = tuple(session for session in listed if session.id not in ended)
            if not left:
                break
            await self._end_each(left, refresh_tokens)
            ended |= {session.id: session for session in left}
        if refresh_tokens:
            path = f"{self._path}/users/{path_segment(user_id)}/logout"
            _not_found(await self._calls.call("POST", path, expect={204, 404}))
        return tuple(ended.values())

    async def lifetimes(self) -> Lifetimes:
        """The realm's; Keycloak's defaults if the account may not read them."""
        return (await self._realm_or_defaults()).longest()

    # -- calls ----------------------------------------------------------------------------

    async def _end_each(self, sessions: Iterable[ProviderSession], refresh_tokens: bool) -> None:
        """A login with offline access leaves an offline session alone, which ends too."""
        for session in sessions:
            await self.end(session.id, refresh_tokens=refresh_tokens or session.offline)

    async def _of_user(self, user_id: str, which: str) -> tuple[ProviderSession, ...]:
        path = f"{self._path}/users/{path_segment(user_id)}/{which}"
        response = await self._calls.call("GET", path, expect={200, 404})
        if _not_found(response):
            return ()
        return check_owner(await self._sessions(response, which != "sessions"), user_id=user_id)

    async def _offline_of_user(self, user_id: str) -> tuple[ProviderSession, ...]:
        """One call for each client that has an offline token of the user; usually none."""
        path = f"{self._path}/users/{path_segment(user_id)}/consents"
        response = await self._calls.call("GET", path, expect={200, 404})
        if _not_found(response):
            return ()
        by_id: dict[str, ProviderSession] = {}
        for consent in parse(tuple[Consent, ...], response.body):
            for client in consent.offline_clients:
                of_client = await self._of_user(user_id, f"offline-sessions/{path_segment(client)}")
                by_id |= {session.id: session for session in of_client}
        return tuple(by_id.values())

    async def _search(self, session_id: str) -> ProviderSession | None:
        """Search the sessions of every client that has any."""
        path = f"{self._path}/client-session-stats"
        response = await self._calls.call("GET", path, expect={200})
        stats = parse(tuple[ClientStats, ...], response.body)
        for offline, which in ((False, "user-sessions"), (True, "offline-sessions")):
            clients = [stat.id for stat in stats if (stat.offline if offline else stat.active) > 0]
            for client in clients:
                async for sessions in self._pages(
                    f"clients/{path_segment(client)}/{which}", offline
                ):
                    if session := _find(sessions, session_id):
                        return session
        return None

    async def _pages(self, path: str, offline: bool) -> AsyncIterator[tuple[ProviderSession, ...]]:
        for number in range(SEARCH_PAGES):
            params = {"first": str(number * SEARCH_PAGE), "max": str(SEARCH_PAGE)}
            response = await self._calls.call(
                "GET", f"{self._path}/{path}", expect={200}, params=params
            )
            sessions = await self._sessions(response, offline)
            yield sessions
            if len(sessions) < SEARCH_PAGE:
                return
        # It may be on a page that was not read, so it is not known to be gone.
        raise ProviderFault(FaultKind.UNEXPECTED, "too_many_sessions")

    async def _sessions(self, response: ApiResponse, offline: bool) -> tuple[ProviderSession, ...]:
        shapes = parse(tuple[KeycloakSession, ...], response.body)
        if not shapes or offline:
            return tuple(shape.session(self.issuer, offline) for shape in shapes)
        realm = await self._realm_or_defaults()
        return tuple(
            with_lifetimes(
                shape.session(self.issuer, offline),
                realm.lifetimes(remember_me=shape.rememberMe),
            )
            for shape in shapes
        )

    async def _realm_or_defaults(self) -> Realm:
        """The realm's lifetimes. Without the role, the response has few of them, or is a 403."""
        if self._realm is None or time.monotonic() - self._realm_at > REALM_SECONDS:
            response = await self._calls.call("GET", self._path, expect={200, 403})
            self._realm = Realm() if response.status == 403 else parse(Realm, response.body)
            self._realm_at = time.monotonic()
        return self._realm


def _find(sessions: tuple[ProviderSession, ...], session_id: str) -> ProviderSession | None:
    return next((session for session in sessions if session.id == session_id), None)


def _not_found(response: ApiResponse) -> bool:
    return is_not_found(response, KeycloakNotFound)
