"""A provider that sends only what OpenID Connect requires.

Its ID tokens have `iss`, `sub`, `aud`, `exp`, `iat` and `nonce`: no `name`, no `sid`. It checks
what the OpenID Foundation's plans for relying parties check of a request: state, PKCE, the client's
secret, and at the end of a session `id_token_hint` and `post_logout_redirect_uri`.
"""

import base64
import hashlib
import json
import secrets
import time
from typing import Any
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tests.support.providers.api_server import ApiServer, Request, Response
from tests.support.providers.provider import private_key

CLIENT_ID, CLIENT_SECRET = "shop-web", "secret of the shop"
USER = "248289761001"


class MinimalOp(ApiServer):
    """``back`` is what it sends back with the browser after a logout: None, the state it was sent.

    ``claims`` are added to ID tokens or, where None, left out; ``endpoints`` to the metadata.
    """

    def __init__(self, app: str) -> None:
        super().__init__()
        self.app = app
        self.back: dict[str, str] | None = None
        self.claims: dict[str, Any] = {}
        self.endpoints: dict[str, str] = {"end_session_endpoint": f"{self.origin}/end-session"}
        self.ended: list[dict[str, str]] = []
        """The parameters of each correct logout request."""
        self._key = private_key("RS256")
        self._codes: dict[str, dict[str, str]] = {}

    def answer(self, request: Request) -> Response:
        match request.method, request.path:
            case "GET", "/.well-known/openid-configuration":
                return Response(200, self._metadata())
            case "GET", "/jwks":
                public = self._key.public_key()
                assert isinstance(public, RSAPublicKey)
                jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(public))
                return Response(200, {"keys": [jwk | {"use": "sig", "alg": "RS256"}]})
            case "GET", "/authorize":
                return self._authorize(request.query)
            case "POST", "/token":
                return self._token(request)
            case "GET", "/end-session":
                return self._end(request.query)
        return Response(404)

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.origin,
            "authorization_endpoint": f"{self.origin}/authorize",
            "token_endpoint": f"{self.origin}/token",
            "jwks_uri": f"{self.origin}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        } | self.endpoints

    def _authorize(self, asked: dict[str, str]) -> Response:
        good = (
            (asked["client_id"], asked["redirect_uri"]) == (CLIENT_ID, f"{self.app}/callback")
            and asked["response_type"] == "code"
            and "openid" in asked["scope"].split()
            and (asked["code_challenge_method"], bool(asked["nonce"])) == ("S256", True)
        )
        if not good or not asked["state"]:
            return Response(400)
        code = secrets.token_urlsafe()
        self._codes[code] = asked
        query = urlencode({"code": code, "state": asked["state"]})
        return Response(302, None, {"Location": f"{asked['redirect_uri']}?{query}"})

    def _token(self, request: Request) -> Response:
        asked = self._codes.pop(request.form["code"])
        digest = hashlib.sha256(request.form["code_verifier"].encode()).digest()
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if (
            base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]
            or request.headers.get("authorization") != f"Basic {basic}"
            or request.form["redirect_uri"] != asked["redirect_uri"]
        ):
            return Response(400, {"error": "invalid_grant"})
        now = int(time.time())
        claims = {"iss": self.origin, "sub": USER, "aud": CLIENT_ID, "iat": now, "exp": now + 300}
        claims |= {"nonce": asked["nonce"]} | self.claims
        kept = {name: value for name, value in claims.items() if value is not None}
        token = jwt.encode(kept, self._key, "RS256")
        return Response(
            200,
            {"access_token": secrets.token_urlsafe(), "token_type": "Bearer", "id_token": token},
        )

    def _end(self, asked: dict[str, str]) -> Response:
        claims = jwt.decode(
            asked["id_token_hint"], self._key.public_key(), ["RS256"], audience=CLIENT_ID
        )
        if claims["sub"] != USER or asked["post_logout_redirect_uri"] != f"{self.app}/":
            return Response(400)
        self.ended.append(asked)
        state = {"state": asked["state"]} if "state" in asked else {}
        query = urlencode(state if self.back is None else self.back)
        target = asked["post_logout_redirect_uri"] + (f"?{query}" if query else "")
        return Response(302, None, {"Location": target})
