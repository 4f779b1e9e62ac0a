"""Identifies the user behind a request, and which of their sessions sent it.

An app's backend authenticates with its token and names the session in a header:

    Authorization: Bearer <the app's token in the settings>
    Bcl-Session:   base64url of what `remember` stores: {"iss": ..., "login_at": ..., ...}

A browser sends an access token: see `access_token`.
"""

import base64
import binascii
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
from app.web.credentials import bearer_token, token_digest
from app.web.errors import ApiError, bad_request
from app.web.operator import peer_address
from backchannel_logout import Session, SessionNotIdentified

SESSION_HEADER = "bcl-session"

# Five members, of which the longest has 1,024 characters.
_MAX_HEADER_LENGTH = 8192


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated user in one of their sessions. `Liveness` checks that it is alive."""

    session: Session
    sub: str
    issuer: IssuerSettings
    apps: tuple[str, ...]
    """The apps whose markers decide whether the session is alive."""
    who: str
    """For limits and audit: ``account:shop``, or ``account:browser``."""
    peer: str
    by_token: bool = False
    """Identified by an access token or by Kratos: ``login_at`` may be later than the login."""
    confirmed: bool = False
    """The provider has confirmed the session for this request, so its age does not matter."""


class Callers:
    """Authenticates requests. ``tokens`` None: access tokens are not accepted."""

    def __init__(self, settings: Settings, tokens: AccessTokens | None) -> None:
        self._issuers: Mapping[str, IssuerSettings] = {
            name: issuer for issuer in settings.issuers for name in issuer.names
        }
        self._apps = [
            (token_digest(each.effective_token), each.app) for each in settings.account_apps
        ]
        self._tokens = tokens

    async def identify(self, scope: Scope) -> Caller:
        """The caller of this request. Raises `ApiError`."""
        headers = Headers(scope=scope)
        token = bearer_token(headers)
        if token is None:
            raise unauthorized("send Authorization: Bearer <token>")
        peer, digest = peer_address(scope), token_digest(token)
        # Compares with every token, so that the time does not reveal which one matched.
        apps = [app for known, app in self._apps if hmac.compare_digest(known, digest)]
        if apps:
            return self._app_caller(apps[0], headers, peer)
        if self._tokens is None or token.count(".") != 2:
            raise unauthorized("this opens nothing here")
        try:
            verified = await self._tokens.verify(token.encode())
        except TokenRefused:
            raise unauthorized("this is no access token for these sessions") from None
        except DependencyUnavailable:
            raise ApiError(
                503, "keys_unavailable", "the issuer's keys can not be had now", retry_after=5
            ) from None
        apps_of_issuer = sorted({client.app for client in verified.issuer.clients})
        return Caller(
            verified.session, verified.session.sub or "", verified.issuer, tuple(apps_of_issuer),
            "account:browser", peer, by_token=True,
        )  # fmt: skip

    def _app_caller(self, app: str, headers: Headers, peer: str) -> Caller:
        session = _session(headers.getlist(SESSION_HEADER))
        issuer = self._issuers.get(session.iss)
        if issuer is None or app not in {client.app for client in issuer.clients}:
            raise bad_request("the session's iss is no issuer of this app")
        if not session.sub:
            raise bad_request("the session has no sub, so nobody knows whose sessions to show")
        return Caller(session, session.sub, issuer, (app,), f"account:{app}", peer)


def unauthorized(sentence: str, code: str = "unauthorized") -> ApiError:
    """401 with the challenge that HTTP requires."""
    error = ApiError(401, code, sentence)
    error.headers["WWW-Authenticate"] = 'Bearer realm="active sessions"'
    return error


def _session(values: list[str]) -> Session:
    """The session in the only ``Bcl-Session`` header. Raises `ApiError`."""
    error = bad_request("Bcl-Session is the base64url of a JSON object: iss, sub, sid, login_at")
    if len(values) != 1 or len(values[0]) > _MAX_HEADER_LENGTH:
        raise error
    padded = values[0].encode() + b"=" * (-len(values[0]) % 4)
    try:
        members = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise error from None
    if not isinstance(members, dict):
        raise error
    try:
        return Session.from_mapping(members)
    except SessionNotIdentified:
        raise error from None
