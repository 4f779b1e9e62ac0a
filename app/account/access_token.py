"""Verifies the access token that a browser sends (RFC 9068, and its variants by provider).

It must be signed by a configured issuer for ``account_audience``, with ``account_scope``, and name
a user and a session. An ID token or a logout token does not qualify: the audience is not a client
id, a scope is required, and claims specific to them are refused.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.config.issuers import IssuerSettings
from app.errors import Reason, TokenRefused
from app.tokens.provider_keys import ProviderKeys
from app.tokens.signed_jwt import check_header, issuer_of, parse
from backchannel_logout import Session

_TYPS = frozenset({"at+jwt", "application/at+jwt"})

# Claims of other kinds of tokens. Keycloak names the kind in a claim: ID, Refresh, Offline, Logout.
_FOREIGN_CLAIMS = ("events", "nonce", "at_hash", "c_hash", "s_hash")
_FOREIGN_TYPS = frozenset({"id", "refresh", "offline", "logout"})

_MAX_TOKEN_LENGTH = 16384
_MAX_ID_LENGTH = 255


@dataclass(frozen=True, slots=True)
class VerifiedAccess:
    session: Session
    issuer: IssuerSettings


class AccessTokens:
    """``keys`` are by the issuer's configured name."""

    def __init__(
        self,
        issuers: Mapping[str, IssuerSettings],
        keys: Mapping[str, ProviderKeys],
        *,
        audience: str,
        scope: str,
    ) -> None:
        self._issuers = dict(issuers)
        self._keys = keys
        self._audience = audience
        self._scope = scope

    async def verify(self, token: bytes) -> VerifiedAccess:
        """The session of the token. Raises `TokenRefused`, `DependencyUnavailable`."""
        now = time.time()
        if len(token) > _MAX_TOKEN_LENGTH:
            raise TokenRefused(Reason.SHAPE)
        jwt = parse(token)
        issuer = issuer_of(jwt, self._issuers)
        # Only the issuer's own algorithms: a client can sign with its own secret.
        if jwt.unverified_header.get("alg") not in issuer.algorithms:
            raise TokenRefused(Reason.ALG)
        check_header(jwt, issuer, _TYPS)
        signed = await self._keys[issuer.issuer].verify(jwt, issuer, arrived_at=now)
        return VerifiedAccess(self._session(signed.claims, issuer, now), issuer)

    def _session(self, claims: dict[str, Any], issuer: IssuerSettings, now: float) -> Session:
        typ = claims.get("typ")
        if any(name in claims for name in _FOREIGN_CLAIMS) or (
            isinstance(typ, str) and typ.lower() in _FOREIGN_TYPS
        ):
            raise TokenRefused(Reason.TYP)
        audience = claims.get("aud")
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise TokenRefused(Reason.AUD)
        if self._scope not in _scopes(claims):
            raise TokenRefused(Reason.AUD_UNKNOWN)
        issued, expires = _number(claims.get("iat")), _number(claims.get("exp"))
        if issued is None or issued > now + issuer.leeway:
            raise TokenRefused(Reason.IAT)
        if expires is None or expires <= now - issuer.leeway:
            raise TokenRefused(Reason.EXP_PAST)
        not_before = _number(claims.get("nbf", 0))
        if not_before is None or not_before > now + issuer.leeway:
            raise TokenRefused(Reason.NBF)
        sub, sid = claims.get("sub"), claims.get("sid")
        if not _is_id(sub) or not _is_id(sid):
            raise TokenRefused(Reason.SUBJECT_MISSING)
        # A refreshed token is younger than the login; `Liveness` accounts for that.
        login = _number(claims.get("auth_time"))
        return Session(
            iss=claims["iss"],
            login_at=int(min(issued, login) if login is not None else issued),
            sid=sid,
            sub=sub,
        )


def _scopes(claims: Mapping[str, Any]) -> list[Any]:
    """RFC 9068 has a space-separated ``scope``; some providers write ``scp``, or a list."""
    scope = claims.get("scope", claims.get("scp"))
    if isinstance(scope, str):
        return scope.split(" ")
    return scope if isinstance(scope, list) else []


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        return None
    return float(value)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= _MAX_ID_LENGTH
