"""Who asks, and for which session of their own.

An app's backend shows its credential, and says in a header which of its sessions asks:

    Authorization: Bearer <the app's token in the settings>
    Bcl-Session:   base64url of what `remember` stores: {"iss": ..., "login_at": ..., ...}

A browser shows an access token that was made for this: see `access_token`.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from app.account.access_token import AccessTokens
from app.config.issuers import IssuerSettings
from app.config.model import Settings
from app.errors import DependencyUnavailable, TokenRefused
from app.web.errors import ApiFault, bad_request
from backchannel_logout import Session, SessionNotIdentified

SESSION_HEADER = "bcl-session"

# Five members, of which the longest has 1,024 characters.
_LONGEST_HEADER = 8192


@dataclass(frozen=True, slots=True)
class Caller:
    """A user, in one of her own sessions. Proven; whether the session lives is asked later."""

    session: Session
    sub: str
    issuer: IssuerSettings
    apps: tuple[str, ...]
    """Whose markers must be silent about the session."""
    who: str
    """For limits and audit: ``account:shop``, or ``account:browser``."""
    peer: str
    by_token: bool = False
    """Identified by an access token or by Kratos: ``login_at`` may be later than the login."""
    confirmed: bool = False
    """The provider has confirmed the session for this request, so its age does not matter."""


class Callers:
    """Knows who may ask. ``tokens`` None: no access token is for this."""

    def __init__(self, settings: Settings, tokens: AccessTokens | None) -> None:
        self._issuers: Mapping[str, IssuerSettings] = {
            name: issuer for issuer in settings.issuers for name in issuer.names
        }
        self._apps = [(_digest(one.effective_token), one.app) for one in settings.account_apps]
        self._tokens = tokens

    async def identify(self, scope: Scope) -> Caller:
        """Who sends this request. Raises `ApiFault`."""
        headers = Headers(scope=scope)
        shown = _bearer(headers)
        if shown is None:
            raise unauthorized("send Authorization: Bearer <token>")
        peer = scope["client"][0] if scope.get("client") else "-"
        digest = _digest(shown)
        # All of them, so that the time does not tell which one is close.
        apps = [app for known, app in self._apps if hmac.compare_digest(known, digest)]
        if apps:
            return self._of_app(apps[0], headers, peer)
        if self._tokens is None or shown.count(".") != 2:
            raise unauthorized("this opens nothing here")
        try:
            proven = await self._tokens.prove(shown.encode())
        except TokenRefused:
            raise unauthorized("this is no access token for these sessions") from None
        except DependencyUnavailable:
            raise ApiFault(
                503, "keys_unavailable", "the issuer's keys can not be had now", retry_after=5
            ) from None
        apps_of_issuer = sorted({client.app for client in proven.issuer.clients})
        return Caller(
            proven.session, proven.session.sub or "", proven.issuer, tuple(apps_of_issuer),
            "account:browser", peer, by_token=True,
        )  # fmt: skip

    def _of_app(self, app: str, headers: Headers, peer: str) -> Caller:
        session = _said_session(headers.getlist(SESSION_HEADER))
        issuer = self._issuers.get(session.iss)
        if issuer is None or app not in {client.app for client in issuer.clients}:
            raise bad_request("the session's iss is no issuer of this app")
        if not session.sub:
            raise bad_request("the session has no sub, so nobody knows whose sessions to show")
        return Caller(session, session.sub, issuer, (app,), f"account:{app}", peer)


def unauthorized(sentence: str, code: str = "unauthorized") -> ApiFault:
    """401, with the challenge that HTTP demands."""
    fault = ApiFault(401, code, sentence)
    fault.headers["WWW-Authenticate"] = 'Bearer realm="active sessions"'
    return fault


def _said_session(found: list[str]) -> Session:
    """What exactly one header says. Raises `ApiFault`."""
    fault = bad_request("Bcl-Session is the base64url of a JSON object: iss, sub, sid, login_at")
    if len(found) != 1 or len(found[0]) > _LONGEST_HEADER:
        raise fault
    padded = found[0].encode() + b"=" * (-len(found[0]) % 4)
    try:
        members = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise fault from None
    if not isinstance(members, dict):
        raise fault
    try:
        return Session.from_mapping(members)
    except SessionNotIdentified:
        raise fault from None


def _bearer(headers: Headers) -> str | None:
    found = headers.getlist("authorization")
    if len(found) != 1:
        return None
    scheme, _, token = found[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
