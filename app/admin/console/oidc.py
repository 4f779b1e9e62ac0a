"""Sign-in at a configured provider: OpenID Connect's authorization code flow.

With PKCE (RFC 7636), state and nonce. The ID token is proven by the same code as a logout token;
the library for the rest is httpx. What is under way is in memory, tied to the browser by a cookie
that, unlike the session's, comes along from the provider's page.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard
from urllib.parse import quote_plus, urlencode

import httpx
from starlette.requests import Request

from app.errors import DependencyUnavailable, TokenRefused
from app.log import new_log
from app.settings import IssuerSettings, Settings
from app.settings_admin import AdminOidcSettings, RequiredClaim
from app.settings_values import may_fetch
from app.tokens import signed_jwt
from app.tokens.fetch import FETCH_SECONDS, LARGEST_DOCUMENT, FetchFailed, fetch_document
from app.tokens.provider_keys import ProviderKeys
from backchannel_logout import SessionNotIdentified, remember

from .signed_in import cookie, set_cookie

log = new_log(__name__)

CALLBACK = "/console/callback"

_PENDING_COOKIE = "__Host-bcl_sign_in"

# Time for a password and a second factor.
_PENDING_SECONDS = 600
_MOST_PENDING = 200


class SignInRefused(Exception):
    """A sentence for the person who signs in; the log says more."""


@dataclass(frozen=True, slots=True)
class _Pending:
    began: float
    nonce: str
    verifier: str
    browser: str


class OidcSignIn:
    """``clock`` is epoch seconds."""

    def __init__(
        self,
        settings: Settings,
        oidc: AdminOidcSettings,
        client: httpx.AsyncClient,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._oidc = oidc
        self._issuer: IssuerSettings = next(
            one for one in settings.issuers if one.issuer == oidc.issuer
        )
        self.app = next(c.app for c in self._issuer.clients if c.client_id == oidc.client_id)
        """The console's own relying app: its marker ends the console's sessions."""
        self._client = client
        self._keys = ProviderKeys(self._issuer, client, clock=clock)
        self._clock = clock
        self._pending: OrderedDict[str, _Pending] = OrderedDict()

    async def begin(self, origin: str) -> tuple[str, str]:
        """Where to send the browser, and the cookie that ties it. Raises `SignInRefused`."""
        endpoint = (await self._discovered())["authorization_endpoint"]
        state, browser = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        pending = _Pending(
            self._clock(), secrets.token_urlsafe(32), secrets.token_urlsafe(48), browser
        )
        self._pending[state] = pending
        if len(self._pending) > _MOST_PENDING:
            self._pending.popitem(last=False)
        query = {
            "response_type": "code",
            "client_id": self._oidc.client_id,
            "redirect_uri": origin + CALLBACK,
            "scope": " ".join(self._oidc.scopes),
            "state": state,
            "nonce": pending.nonce,
            "code_challenge": _challenge(pending.verifier),
            "code_challenge_method": "S256",
        }
        tie = set_cookie(browser, name=_PENDING_COOKIE, same_site="Lax", life=_PENDING_SECONDS)
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}", tie

    def forget(self) -> str:
        """The header that removes the cookie of `begin`."""
        return set_cookie("", name=_PENDING_COOKIE, same_site="Lax", life=0)

    async def finish(self, request: Request, origin: str) -> tuple[dict[str, Any], str]:
        """What `remember` stores of the login, and who it is. Raises `SignInRefused`."""
        found = dict(request.query_params)
        pending = self._pending.pop(found.get("state", ""), None)
        browser = cookie(request.headers, _PENDING_COOKIE) or ""
        if pending is None or not secrets.compare_digest(
            browser.encode(), pending.browser.encode()
        ):
            raise SignInRefused("This sign-in was not begun in this browser; begin it again.")
        if pending.began + _PENDING_SECONDS < self._clock():
            raise SignInRefused("This sign-in took too long; begin it again.")
        if found.get("iss", self._oidc.issuer) != self._oidc.issuer:
            raise SignInRefused("The answer is of another provider.")  # RFC 9207
        if "code" not in found:
            raise SignInRefused("The provider did not sign you in.")
        token = await self._exchanged(found["code"], pending.verifier, origin)
        claims = await self._proven(token, pending.nonce)
        if not _has(claims, self._oidc.required):
            log.warning("admin", outcome="refused", reason="claim")
            raise SignInRefused("You are signed in there, and may not use this console.")
        stored: dict[str, Any] = {}
        try:
            remember(stored, claims)
        except SessionNotIdentified:
            raise SignInRefused("The provider's ID token can not be used.") from None
        who = claims.get("preferred_username") or claims.get("sub")
        return stored, str(who)[:200]

    async def _discovered(self) -> dict[str, Any]:
        url = self._oidc.issuer.rstrip("/") + "/.well-known/openid-configuration"
        allow_http = self._issuer.allow_http
        try:
            found = json.loads(await fetch_document(self._client, url, allow_http=allow_http))
        except (FetchFailed, ValueError, RecursionError) as error:
            raise self._failed("discovery", error) from None
        if not isinstance(found, dict) or found.get("issuer") != self._oidc.issuer:
            raise self._failed("discovery", None)
        for name in ("authorization_endpoint", "token_endpoint"):
            value = found.get(name)
            if not isinstance(value, str) or not may_fetch(value, allow_http=allow_http):
                raise self._failed(name, None)
        return found

    async def _exchanged(self, code: str, verifier: str, origin: str) -> str:
        endpoint = (await self._discovered())["token_endpoint"]
        secret = self._oidc.client_secret.get_secret_value()
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                answer = await self._client.post(
                    endpoint,
                    data={
                        "grant_type": "authorization_code", "code": code,
                        "redirect_uri": origin + CALLBACK, "code_verifier": verifier,
                    },
                    # RFC 6749 section 2.3.1: each half form-encoded first.
                    auth=(quote_plus(self._oidc.client_id), quote_plus(secret)),
                )  # fmt: skip
            if answer.status_code != 200 or len(answer.content) > LARGEST_DOCUMENT:
                raise self._failed(f"token_http_{answer.status_code}", None)
            token = answer.json()["id_token"]
        except (TimeoutError, httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise self._failed("token", error) from None
        if not isinstance(token, str):
            raise self._failed("token", None)
        return token

    async def _proven(self, token: str, nonce: str) -> Mapping[str, Any]:
        """The claims of the ID token (OpenID Connect Core 1.0, section 3.1.3.7)."""
        try:
            jwt = signed_jwt.parse(token.encode())
            # `strict` and a secret's algorithm are matters of logout tokens.
            issuer = replace(self._issuer.plain, strict=False)
            signed_jwt.check_header(jwt, issuer, frozenset())
            signed = await signed_jwt.verify(jwt, issuer, self._keys, arrived_at=self._clock())
        except (TokenRefused, DependencyUnavailable, UnicodeEncodeError) as error:
            raise self._failed("id_token", error) from None
        claims, now, leeway = signed.claims, self._clock(), self._issuer.leeway
        aud = claims.get("aud")
        audiences = aud if isinstance(aud, list) else [aud]
        azp = claims.get("azp", self._oidc.client_id)
        exp, iat = claims.get("exp"), claims.get("iat")
        good = (
            claims.get("iss") == self._oidc.issuer
            and self._oidc.client_id in audiences
            and azp == self._oidc.client_id
            and _is_number(exp) and exp > now - leeway
            and _is_number(iat) and iat < now + leeway
            and claims.get("nonce") == nonce
            and isinstance(claims.get("sub"), str) and claims["sub"]
        )  # fmt: skip
        if not good:
            raise self._failed("id_token_claims", None)
        return claims

    @staticmethod
    def _failed(what: str, error: Exception | None) -> SignInRefused:
        log.warning(
            "admin", outcome="sign_in_failed", reason=what,
            error=None if error is None else type(error).__name__,
        )  # fmt: skip
        return SignInRefused("The sign-in at the provider failed; the receiver's log says where.")

    async def aclose(self) -> None:
        with contextlib.suppress(Exception):
            await self._keys.aclose()


def _has(claims: Mapping[str, Any], required: RequiredClaim) -> bool:
    found = claims.get(required.name)
    return found == required.value or (isinstance(found, list) and required.value in found)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
