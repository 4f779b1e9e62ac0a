"""The session endpoints of Auth0's Management API v2, and its token endpoint.

Written from the Management API's reference (sessions, users' sessions, tenant settings), the pages
on its rate limits and checkpoint pagination, and the reference of ``/oauth/token``. Everything else
is 404, as at Auth0.
"""

import math
import secrets
import threading
import time
from datetime import UTC, datetime
from typing import Any

from tests.support.providers.api_server import ApiServer, Request, Response

CLIENT_ID, CLIENT_SECRET = "bcl-receiver", "secret of the machine client"
ALL_SCOPES = frozenset(
    {"read:sessions", "delete:sessions", "delete:refresh_tokens", "read:tenant_settings"}
)


class Auth0Api(ApiServer):
    """One tenant."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[str, dict[str, Any]] = {}
        self.refresh_tokens: set[str] = set()
        """Ids of the sessions with a valid refresh token."""
        self.scopes = set(ALL_SCOPES)
        self.token_life: float = 86400
        self.tokens: dict[str, float] = {}
        """Valid access tokens, with their expiry."""
        self.lag = 0.0
        """How long after its 202 a deletion takes effect."""
        self.settings: dict[str, Any] = {"session_lifetime": 168, "idle_session_lifetime": 72}
        self.faults_for: set[str] = set()
        """Ids of users and sessions that the faults apply to; empty: to all."""
        self._doomed: dict[str, float] = {}
        self.carrying_out = threading.RLock()
        """A test and the requests of the receiver carry out deletions, each in its own thread."""

    def add(self, user_id: str, session_id: str | None = None, **members: Any) -> str:
        """Add a session of the user, with members added or changed. Returns its id."""
        session_id, now = session_id or secrets.token_urlsafe(24), time.time()
        self.sessions[session_id] = {
            "id": session_id,
            "user_id": user_id,
            "created_at": stamp(now - 600),
            "updated_at": stamp(now - 60),
            "authenticated_at": stamp(now - 600),
            "idle_expires_at": stamp(now + 3 * 86400),
            "expires_at": stamp(now + 7 * 86400),
            "last_interacted_at": stamp(now - 60),
            "device": {
                "initial_user_agent": "Firefox/1",
                "initial_ip": "192.0.2.1",
                "initial_asn": "64496",
                "last_user_agent": "Firefox/2",
                "last_ip": "192.0.2.2",
                "last_asn": "64497",
            },
            "clients": [{"client_id": "shop-web"}, {"client_id": "news-web"}],
            "authentication": {
                "methods": [{"name": "pwd", "timestamp": stamp(now - 600), "type": "pwd"}]
            },
            "cookie": {"mode": "persistent"},
        } | members
        self.refresh_tokens.add(session_id)
        return session_id

    def alive(self) -> set[str]:
        """The ids of the active sessions."""
        self.carry_out(time.time())
        return set(self.sessions)

    def is_misbehaving(self, request: Request) -> bool:
        if request.path == "/oauth/token":
            return False
        return not self.faults_for or not self.faults_for.isdisjoint(request.segments)

    def answer(self, request: Request) -> Response:
        self.carry_out(time.time())
        if request.path == "/oauth/token":
            return self._token(request)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.tokens.get(bearer, 0) <= time.time():
            return fault(401, "Unauthorized", "Invalid token")
        match request.method, request.segments:
            case "GET", ("api", "v2", "sessions", session_id):
                return self._scoped("read:sessions") or self._session(session_id)
            case "DELETE", ("api", "v2", "sessions", session_id):
                return self._scoped("delete:sessions") or self._end(session_id)
            case "POST", ("api", "v2", "sessions", session_id, "revoke"):
                refused = self._scoped("delete:sessions") or self._scoped("delete:refresh_tokens")
                return refused or self._end(session_id, refresh_tokens=True)
            case "GET", ("api", "v2", "users", user_id, "sessions"):
                return self._scoped("read:sessions") or self._page(user_id, request.query)
            case "DELETE", ("api", "v2", "users", user_id, "sessions"):
                return self._scoped("delete:sessions") or self._end_all(user_id)
            case "GET", ("api", "v2", "tenants", "settings"):
                fields = request.query.get("fields", "").split(",")
                chosen = {name: self.settings[name] for name in fields if name in self.settings}
                return self._scoped("read:tenant_settings") or Response(200, chosen)
        return fault(404, "Not Found", "Not Found")

    def _token(self, request: Request) -> Response:
        wanted = {
            "grant_type": "client_credentials",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
        }
        if request.form != wanted | {"audience": f"{self.origin}/api/v2/"}:
            return Response(401, {"error": "access_denied", "error_description": "Unauthorized"})
        token = secrets.token_urlsafe(32)
        self.tokens[token] = time.time() + self.token_life
        life = {"expires_in": self.token_life, "scope": " ".join(sorted(self.scopes))}
        return Response(200, {"access_token": token, "token_type": "Bearer", **life})

    def _scoped(self, scope: str) -> Response | None:
        if scope in self.scopes:
            return None
        return fault(403, "Forbidden", f"Insufficient scope, expected any of: {scope}")

    def _session(self, session_id: str) -> Response:
        session = self.sessions.get(session_id)
        return Response(200, session) if session else _no_session()

    def _page(self, user_id: str, query: dict[str, str]) -> Response:
        own = sorted(id_ for id_, it in self.sessions.items() if it["user_id"] == user_id)
        rest = [id_ for id_ in own if id_ > query.get("from", "")]
        take = min(int(query.get("take", 50)), 100)
        body: dict[str, Any] = {"sessions": [self.sessions[id_] for id_ in rest[:take]]}
        return Response(200, body | ({"next": rest[take - 1]} if rest[take:] else {}))

    def _end(self, session_id: str, *, refresh_tokens: bool = False) -> Response:
        if session_id not in self.sessions:
            return _no_session()
        self._doomed.setdefault(session_id, time.time() + self.lag)
        if refresh_tokens:
            self.refresh_tokens.discard(session_id)
        return Response(202)

    def _end_all(self, user_id: str) -> Response:
        for session_id, session in self.sessions.items():
            if session["user_id"] == user_id:
                self._doomed.setdefault(session_id, time.time() + self.lag)
        return Response(202)

    def carry_out(self, now: float) -> None:
        """Carry out the deletions that were accepted ``lag`` seconds before ``now``."""
        with self.carrying_out:
            for session_id, at in list(self._doomed.items()):
                if at <= now:
                    self.sessions.pop(session_id, None)
                    del self._doomed[session_id]

    def carry_out_all(self) -> None:
        """Carry out every accepted deletion now; later ones take effect at once."""
        self.lag = 0.0
        self.carry_out(math.inf)


def fault(status: int, error: str, message: str) -> Response:
    """An error in Auth0's form."""
    return Response(status, {"statusCode": status, "error": error, "message": message})


def limited(seconds: int) -> Response:
    """A 429 whose limit resets in ``seconds``."""
    headers = {
        "x-ratelimit-limit": "10",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": str(int(time.time()) + seconds),
    }
    body = fault(429, "Too Many Requests", "Global limit has been reached").body
    return Response(429, body, headers)


def stamp(at: float) -> str:
    """Epoch seconds in Auth0's form."""
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")


def _no_session() -> Response:
    return fault(404, "Not Found", "The session does not exist")
