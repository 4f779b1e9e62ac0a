"""The access token by which a browser asks (RFC 9068, and what providers make of it).

Signed by a configured issuer, for ``account_audience``, with ``account_scope``, of a user and a
session. Never an ID token, nor a logout token: an audience that is no client's, a scope, and
none of their claims.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.config.issuers import IssuerSettings
from app.errors import Reason, TokenRefused
from app.tokens.provider_keys import ProviderKeys
from app.tokens.signed_jwt import check_header, issuer_of, parse
from backchannel_logout import Session

_TYPS = frozenset({"at+jwt", "application/at+jwt"})

# What only other kinds of tokens have. Keycloak says in a claim what it is: ID, Refresh, Logout.
_FOREIGN = ("events", "nonce", "at_hash", "c_hash", "s_hash")
_FOREIGN_TYPS = frozenset({"id", "refresh", "offline", "logout"})

# An access token lives for minutes; some for a day, Auth0's default.
_LONGEST = 16384
_LONGEST_ID = 255


@dataclass(frozen=True, slots=True)
class Proven:
    """Whose session it is."""

    session: Session
    issuer: IssuerSettings


class AccessTokens:
    """``keys`` are by the issuer's configured name; ``clock`` is epoch seconds."""

    def __init__(
        self,
        issuers: Mapping[str, IssuerSettings],
        keys: Mapping[str, ProviderKeys],
        *,
        audience: str,
        scope: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._issuers = dict(issuers)
        self._keys = keys
        self._audience = audience
        self._scope = scope
        self._clock = clock

    async def prove(self, token: bytes) -> Proven:
        """The session that the token is of. Raises `TokenRefused`, `DependencyUnavailable`."""
        now = self._clock()
        if len(token) > _LONGEST:
            raise TokenRefused(Reason.SHAPE)
        jwt = parse(token)
        issuer = issuer_of(jwt, self._issuers)
        # The issuer's own algorithms alone: what a client's secret signs, the client can sign.
        if jwt.unverified_header.get("alg") not in issuer.algorithms:
            raise TokenRefused(Reason.ALG)
        check_header(jwt, issuer, _TYPS)
        signed = await self._keys[issuer.issuer].verify(jwt, issuer, arrived_at=now)
        return Proven(self._checked(signed.claims, issuer, now), issuer)

    def _checked(self, claims: dict[str, Any], issuer: IssuerSettings, now: float) -> Session:
        kind = claims.get("typ")
        if any(name in claims for name in _FOREIGN) or (
            isinstance(kind, str) and kind.lower() in _FOREIGN_TYPS
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
        begins = _number(claims.get("nbf", 0))
        if begins is None or begins > now + issuer.leeway:
            raise TokenRefused(Reason.NBF)
        sub, sid = claims.get("sub"), claims.get("sid")
        if not _is_id(sub) or not _is_id(sid):
            raise TokenRefused(Reason.SUBJECT_MISSING)
        # A refreshed token is younger than the login; `Liveness` allows for it.
        login = _number(claims.get("auth_time"))
        return Session(
            iss=claims["iss"],
            login_at=int(min(issued, login) if login is not None else issued),
            sid=sid,
            sub=sub,
        )


def _scopes(claims: Mapping[str, Any]) -> list[Any]:
    """RFC 9068: ``scope``, a text with blanks; some write ``scp``, and a list."""
    found = claims.get("scope", claims.get("scp"))
    return found.split(" ") if isinstance(found, str) else found if isinstance(found, list) else []


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        return None
    return float(value)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= _LONGEST_ID
