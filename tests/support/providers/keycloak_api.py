"""The session endpoints of Keycloak's Admin REST API for one realm, and its token endpoint.

Written from the source of Keycloak 26: ``UserResource``, ``RealmAdminResource``, ``ClientResource``
and ``UserSessionRepresentation``.
"""

import secrets
import time
import uuid
from typing import Any

from tests.support.providers.api_server import ApiServer, Request, Response

CLIENT_ID, CLIENT_SECRET = "bcl-receiver", "secret of the service account"
REALM = "shop"

CLIENTS = {"11111111-aaaa-4aaa-8aaa-111111111111": "shop-web",
           "22222222-bbbb-4bbb-8bbb-222222222222": "news-web"}  # fmt: skip


class KeycloakApi(ApiServer):
    """One realm."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[str, dict[str, Any]] = {}
        self.offline: dict[str, dict[str, Any]] = {}
        self.users: set[str] = set()
        self.tokens: set[str] = set()
        self.realm: dict[str, Any] = {
            "realm": REALM,
            "ssoSessionIdleTimeout": 1800,
            "ssoSessionMaxLifespan": 36000,
            "rememberMe": False,
        }

    @property
    def issuer(self) -> str:
        return f"{self.origin}/realms/{REALM}"

    def add(
        self, user_id: str, session_id: str | None = None, *, offline: bool = False, **members: Any
    ) -> str:
        """Add a session of the user, with members added or changed. Returns its id."""
        session_id, now = session_id or str(uuid.uuid4()), int(time.time())
        self.users.add(user_id)
        (self.offline if offline else self.sessions)[session_id] = {
            "id": session_id,
            "username": user_id.lower(),
            "userId": user_id,
            "ipAddress": "192.0.2.1",
            "start": (now - 600) * 1000,
            "lastAccess": (now - 60) * 1000,
            "rememberMe": False,
            "clients": dict(CLIENTS),
            "transientUser": False,
        } | members
        return session_id

    def alive(self) -> set[str]:
        """The ids of the active sessions."""
        return {*self.sessions, *self.offline}

    def is_misbehaving(self, request: Request) -> bool:
        return not request.path.endswith("/token")

    def answer(self, request: Request) -> Response:
        if request.path == f"/realms/{REALM}/protocol/openid-connect/token":
            return self._token(request)
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return Response(401, {"error": "HTTP 401 Unauthorized"})
        match request.method, request.segments:
            case method, ("admin", "realms", realm, *rest) if realm == REALM:
                return self._in_realm(method, tuple(rest), request.query)
            case _, ("admin", "realms", *_):
                return Response(404, {"error": "Realm not found."})
        return Response(404, {"error": "Unable to find matching target resource method"})

    def _token(self, request: Request) -> Response:
        if request.form != {
            "grant_type": "client_credentials",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
        }:
            return Response(401, {"error": "unauthorized_client"})
        token = secrets.token_urlsafe(32)
        self.tokens.add(token)
        return Response(200, {"access_token": token, "token_type": "Bearer", "expires_in": 60})

    def _in_realm(self, method: str, rest: tuple[str, ...], query: dict[str, str]) -> Response:
        match method, rest:
            case "GET", ():
                return Response(200, self.realm)
            case "GET", ("client-session-stats",):
                return Response(200, [self._stats(client) for client in CLIENTS])
            case "GET", ("clients", client, "user-sessions" | "offline-sessions" as which):
                sessions = _of_client(self._kind(which == "offline-sessions"), client)
                first, count = int(query["first"]), int(query["max"])
                return Response(200, sessions[first : first + count])
            case "DELETE", ("sessions", session_id):
                kind = self._kind(query.get("isOffline") == "true")
                # The typo is Keycloak's.
                missing = Response(404, {"error": "Sesssion not found"})
                return Response(204) if kind.pop(session_id, None) else missing
            case _, ("users", user_id, *of_user):
                if user_id not in self.users:
                    return Response(404, {"error": "User not found"})
                return self._of_user(method, user_id, of_user)
        return Response(404, {"error": "HTTP 404 Not Found"})

    def _of_user(self, method: str, user_id: str, rest: list[str]) -> Response:
        online, offline = (
            [session for session in kind.values() if session["userId"] == user_id]
            for kind in (self.sessions, self.offline)
        )
        match method, rest:
            case "GET", ["sessions"]:
                return Response(200, online)
            case "GET", ["consents"]:
                grants = [{"client": client, "key": "Offline Token"} for client in CLIENTS]
                consents = [
                    {"clientId": CLIENTS[grant["client"]], "additionalGrants": [grant]}
                    for grant in grants
                ]
                return Response(200, consents if offline else [])
            case "GET", ["offline-sessions", client]:
                return Response(200, _of_client({it["id"]: it for it in offline}, client))
            case "POST", ["logout"]:
                for session in (*online, *offline):
                    self.sessions.pop(session["id"], None)
                    self.offline.pop(session["id"], None)
                return Response(204)
        return Response(404, {"error": "HTTP 404 Not Found"})

    def _kind(self, offline: bool) -> dict[str, dict[str, Any]]:
        return self.offline if offline else self.sessions

    def _stats(self, client: str) -> dict[str, str]:
        numbers = (len(_of_client(self._kind(offline), client)) for offline in (False, True))
        active, offline = map(str, numbers)
        return {"id": client, "clientId": CLIENTS[client], "active": active, "offline": offline}


def _of_client(sessions: dict[str, dict[str, Any]], client: str) -> list[dict[str, Any]]:
    return [session for session in sessions.values() if client in session["clients"]]
