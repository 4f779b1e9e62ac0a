"""Ory Kratos' session endpoints: admin and public, on one address.

Written from the source of Kratos 1.3: ``session/handler.go``, ``persistence/sql``, its pagination
(``ory/x``) and its errors (``ory/herodot``). `tests/interop/test_kratos.py` checks the same against
Kratos itself.
"""

import base64
import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from tests.support.providers.api_server import ApiServer, Request, Response


class KratosApi(ApiServer):
    """One Kratos. A session token or cookie is ``token-`` and the session's id."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[str, dict[str, Any]] = {}
        self.cookie = "ory_kratos_session"
        self.second_factor = False
        """Whether whoami requires a second factor."""
        self.keyset = False
        """Whether pages are found by key, or by position as in Kratos 1.3."""

    def add(self, user_id: str, session_id: str | None = None, **members: Any) -> str:
        """Add a session of the identity, with members added or changed. Returns its id."""
        session_id, now = session_id or str(uuid.uuid4()), time.time()
        self.sessions[session_id] = {
            "id": session_id,
            "active": True,
            "expires_at": stamp(now + 86400),
            "authenticated_at": stamp(now - 600),
            "authenticator_assurance_level": "aal1",
            "authentication_methods": [
                {"method": "password", "aal": "aal1", "completed_at": stamp(now - 600)}
            ],
            "issued_at": stamp(now - 600),
            "identity": {"id": user_id, "schema_id": "default", "traits": {"email": "a@b.example"}},
            "devices": [
                {"id": str(uuid.uuid4()), "ip_address": "192.0.2.1", "user_agent": "Firefox/1",
                 "location": ""},
                {"id": str(uuid.uuid4()), "ip_address": "192.0.2.2", "user_agent": "Firefox/2",
                 "location": "Bonn, DE"},
            ],
        } | members  # fmt: skip
        return session_id

    def alive(self) -> set[str]:
        """The ids of the active sessions."""
        return {id_ for id_, session in self.sessions.items() if session["active"]}

    def answer(self, request: Request) -> Response:
        match request.method, request.segments:
            case "GET", ("admin", "sessions", session_id):
                session = self.sessions.get(session_id)
                if not _is_uuid(session_id):
                    return fault(400, "Bad Request")
                return Response(200, session) if session else fault(404, "Not Found")
            case "DELETE", ("admin", "sessions", session_id):
                return self._deactivate(session_id)
            case "GET", ("admin", "identities", user_id, "sessions"):
                return self._page(request, self._of(user_id, request.query.get("active")))
            case "DELETE", ("admin", "identities", user_id, "sessions"):
                own = self._of(user_id, None)
                for session in own:
                    del self.sessions[session["id"]]
                return Response(204) if own else fault(404, "Not Found")
            case "GET", ("sessions", "whoami"):
                return self._whoami(request)
        return fault(404, "Not Found")

    def _whoami(self, request: Request) -> Response:
        """The first cookie of the name counts, as in Go."""
        prefix = f"{self.cookie}="
        pairs = [pair.strip() for pair in request.headers.get("cookie", "").split(";")]
        cookies = [pair.removeprefix(prefix) for pair in pairs if pair.startswith(prefix)]
        token = request.headers.get("x-session-token") or (cookies[0] if cookies else "")
        current = self.sessions.get(token.removeprefix("token-"))
        if not token.startswith("token-") or current is None or not current["active"]:
            return fault(401, "Unauthorized")
        return fault(403, "Forbidden") if self.second_factor else Response(200, current)

    def _of(self, user_id: str, active: str | None) -> list[dict[str, Any]]:
        own = [it for it in self.sessions.values() if it["identity"]["id"] == user_id]
        return [it for it in own if active is None or it["active"] is (active == "true")]

    def _deactivate(self, session_id: str) -> Response:
        if session_id not in self.sessions:
            return fault(404, "Not Found")
        self.sessions[session_id]["active"] = False
        return Response(204)

    def _page(self, request: Request, sessions: list[dict[str, Any]]) -> Response:
        by_page = self._by_key if self.keyset else self._by_position
        return by_page(request, sessions)

    def _by_position(self, request: Request, sessions: list[dict[str, Any]]) -> Response:
        """As in Kratos 1.3, which counts pages from 0 in links and from 1 in requests."""
        size, page = int(request.query.get("per_page", 250)), int(request.query.get("page", 0))
        total = len(sessions)
        last = (total - 1) // size
        names = {"first": 0} if page >= last else {"next": page + 1, "last": last}
        if total == 0:
            names = {"first": 0, "next": page + 1, "prev": page - 1}
        links = [
            f"<{request.path}?page={number}&page_size={size}&page_token={_key(number * size)}"
            f'&per_page={size}>; rel="{name}"'
            for name, number in names.items()
        ]
        begin = (max(page, 1) - 1) * size
        headers = {"Link": ",".join(links), "X-Total-Count": str(total)}
        return Response(200, sessions[begin : begin + size], headers)

    def _by_key(self, request: Request, sessions: list[dict[str, Any]]) -> Response:
        """As in Kratos' newer lists: after the entry that the token names."""
        size = int(request.query.get("per_page", 250))
        tokens = [_key(number) for number in range(len(sessions))]
        token = request.query.get("page_token")
        begin = tokens.index(token) if token else 0
        more = tokens[begin + size :]
        link = f'<{request.path}?page_size={size}&page_token={more[0]}>; rel="next"' if more else ""
        return Response(200, sessions[begin : begin + size], {"Link": link})


def _key(number: int) -> str:
    return base64.urlsafe_b64encode(json.dumps({"offset": str(number), "v": 2}).encode()).decode()


def fault(code: int, message: str) -> Response:
    """An error in Ory's form."""
    return Response(code, {"error": {"code": code, "status": message, "message": message}})


def stamp(at: float) -> str:
    """Epoch seconds in Go's form, with up to nine digits of the second."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "789Z")


def _is_uuid(value: str) -> bool:
    try:
        uuid.UUID(value)
    except ValueError:
        return False
    return True
