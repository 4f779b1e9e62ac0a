"""The relying app's side of OpenID Connect: code flow with PKCE, ID token, refresh."""

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx
import jwt

# The refresh test sets the provider's clock ahead, by more than real clocks differ.
CLOCK_LEEWAY = 60


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sign-in in progress, with the values that bind the provider's responses to it."""

    state: str = field(default_factory=secrets.token_urlsafe)
    nonce: str = field(default_factory=secrets.token_urlsafe)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    @property
    def challenge(self) -> str:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Tokens:
    """A token response whose ID token is verified."""

    id_token: str
    claims: dict[str, Any]
    refresh_token: str


class OidcClient:
    """A public client of one issuer that accepts only ID tokens signed with ``alg``."""

    def __init__(
        self, http: httpx.AsyncClient, issuer: str, client_id: str, alg: str, redirect_uri: str
    ) -> None:
        self._http = http
        self._issuer = issuer
        self._client_id = client_id
        self._alg = alg
        self._redirect_uri = redirect_uri

    async def authorization_url(self, attempt: Attempt, ask: Mapping[str, str]) -> str:
        """The authorization URL. ``ask`` has the scope and the provider's own parameters."""
        parameters = {
            "client_id": self._client_id,
            "response_type": "code",
            "redirect_uri": self._redirect_uri,
            **ask,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        return f"{await self._endpoint('authorization_endpoint')}?{urlencode(parameters)}"

    async def end_session_url(self, id_token: str) -> str:
        """The provider's end-session URL."""
        endpoint = await self._endpoint("end_session_endpoint")
        return f"{endpoint}?{urlencode({'id_token_hint': id_token})}"

    async def exchange(self, code: str, attempt: Attempt) -> Tokens:
        """Exchange a code for tokens. Raises if they belong to another attempt."""
        tokens = await self._tokens(
            grant_type="authorization_code",
            code=code,
            redirect_uri=self._redirect_uri,
            code_verifier=attempt.verifier,
        )
        assert tokens.claims["nonce"] == attempt.nonce
        return tokens

    async def refresh(self, refresh_token: str) -> Tokens:
        """New tokens, with an ID token of the same login and a newer ``iat``."""
        return await self._tokens(grant_type="refresh_token", refresh_token=refresh_token)

    async def _tokens(self, **form: str) -> Tokens:
        endpoint = await self._endpoint("token_endpoint")
        response = await self._http.post(endpoint, data={"client_id": self._client_id, **form})
        assert response.status_code == 200, response.text
        body = response.json()
        claims = await self._verified(body["id_token"])
        return Tokens(body["id_token"], claims, body["refresh_token"])

    async def _verified(self, id_token: str) -> dict[str, Any]:
        keys = jwt.PyJWKSet.from_dict(await self._document(await self._endpoint("jwks_uri")))
        return jwt.decode(
            id_token,
            keys[jwt.get_unverified_header(id_token)["kid"]],
            algorithms=[self._alg],
            issuer=self._issuer,
            audience=self._client_id,
            leeway=CLOCK_LEEWAY,
            options={"require": ["iss", "sub", "aud", "exp", "iat"]},
        )

    async def _endpoint(self, name: str) -> str:
        discovery = await self._document(self._issuer + "/.well-known/openid-configuration")
        assert discovery["issuer"] == self._issuer
        endpoint: str = discovery[name]
        return endpoint

    async def _document(self, url: str) -> dict[str, Any]:
        response = await self._http.get(url)
        document: dict[str, Any] = response.raise_for_status().json()
        return document
