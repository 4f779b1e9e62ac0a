"""A provider with the authorization code flow, which signs every user in immediately."""

import base64
import hashlib
import json
import secrets
import threading
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.support.providers.provider import ABSENT, Provider, ProviderHandler


class _SignInHandler(ProviderHandler):
    owner: "SignInProvider"

    def do_GET(self) -> None:  # noqa: N802  the base class's name
        parts = urlsplit(self.path)
        if parts.path not in ("/authorize", "/sign-out"):
            super().do_GET()
            return
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.owner.last_query = query
        if parts.path == "/sign-out":
            self._send(b'"You are signed out of everything."')
            return
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(8)
        self.owner.codes[code] = query
        back = f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"
        self._send(b"", 302, Location=back)

    def do_POST(self) -> None:  # noqa: N802
        length = int(self.headers["content-length"])
        form = {k: v[0] for k, v in parse_qs(self.rfile.read(length).decode()).items()}
        with self.owner.counting:
            self.owner.token_requests += 1
        if form["code"] == self.owner.hanging_code:
            self._hang()
        query = self.owner.codes.pop(form["code"], None)
        if query is None:
            self._send(b'{"error": "invalid_grant"}', 400)
            return
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        matches = challenge == query["code_challenge"]
        if not matches or form["redirect_uri"] != query["redirect_uri"]:
            self._send(b'{"error": "invalid_grant"}', 400)
            return
        members = {
            "aud": query["client_id"], "sub": "admin-1", "sid": self.owner.sid,
            "preferred_username": "ada", "groups": ["oncall"], "nonce": query["nonce"],
            "events": ABSENT, "jti": ABSENT,
        } | self.owner.claims_of_user  # fmt: skip
        token = self.owner.token(header={"typ": "JWT"}, **members)
        self._send(json.dumps({"id_token": token, "token_type": "Bearer"}).encode())

    def _hang(self) -> None:
        provider = self.owner
        with provider.counting:
            provider.hanging += 1
        provider.let_go.wait()
        with provider.counting:
            provider.hanging -= 1


class SignInProvider(Provider):
    """``claims_of_user`` are added to the ID token, or change it."""

    handler_type = _SignInHandler

    def __init__(self) -> None:
        super().__init__()
        self.claims_of_user: dict[str, Any] = {}
        self.sid = "console-session"
        self.codes: dict[str, dict[str, str]] = {}
        self.last_query: dict[str, str] = {}
        """The query of the last sign-in or sign-out."""
        self.token_requests = 0
        self.hanging_code = ""
        """A code whose token request hangs until ``let_go`` is set."""
        self.let_go = threading.Event()
        self.hanging = 0
        """The number of hanging requests."""
        self.counting = threading.Lock()
        self.discovery = {
            "authorization_endpoint": self.origin + "/authorize",
            "token_endpoint": self.origin + "/token",
        }
