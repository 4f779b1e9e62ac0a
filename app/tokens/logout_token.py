"""The claims of a logout token (OpenID Connect Back-Channel Logout 1.0, sections 2.4 and 2.6).

Also owns ``typ`` (`TYPS`). `RULES` holds the checks in order: the first failure decides. Each
checks presence, then type, then value; ``null`` is no object and ``true`` is no number.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeGuard

from app.config.issuers import IssuerSettings
from app.errors import Reason, TokenRefused
from app.tokens.signed_jwt import SignedClaims

_NUMBERS = (int, float)  # a tuple: a union would be built anew for each call

EVENT = "http://schemas.openid.net/event/backchannel-logout"

TYPS = frozenset({"logout+jwt", "application/logout+jwt"})
"""The ``typ`` values of a logout token, in lower case (section 2.4)."""

# OpenID Connect Core limits sub to 255 ASCII characters (section 2); no provider sends longer sid
# or jti values.
_MAX_ID = 255


class LogoutToken(NamedTuple):
    """A logout token which has passed every rule. Times are epoch seconds."""

    issuer: IssuerSettings
    client_ids: tuple[str, ...]
    """The configured clients in ``aud``; at least one."""
    iat: float
    jti: str
    sub: str | None
    sid: str | None
    revoke_offline_access: bool
    """Keycloak's member of ``events``: offline sessions end too."""


class RuleInput(NamedTuple):
    """What a rule checks. ``now`` is epoch seconds."""

    claims: Mapping[str, Any]
    issuer: IssuerSettings
    now: float


def check_aud(given: RuleInput) -> None:
    claims, issuer, _ = given
    audiences = _audiences(claims)
    if not isinstance(audiences, list):
        raise TokenRefused(Reason.AUD)
    for audience in audiences:
        if not isinstance(audience, str):
            raise TokenRefused(Reason.AUD)
    if not _named_clients(issuer, audiences):
        raise TokenRefused(Reason.AUD_UNKNOWN)


def check_iat(given: RuleInput) -> None:
    claims, issuer, now = given
    iat = claims.get("iat")
    if not _is_number(iat):
        raise TokenRefused(Reason.IAT)
    if iat > now + issuer.leeway:
        raise TokenRefused(Reason.IAT_FUTURE)
    if iat < now - issuer.max_token_age - issuer.leeway:
        raise TokenRefused(Reason.IAT_OLD)


def check_exp(given: RuleInput) -> None:
    claims, issuer, now = given
    if "exp" not in claims:
        if issuer.require_exp or issuer.strict:
            raise TokenRefused(Reason.EXP_MISSING)
        return
    exp = claims["exp"]
    if not _is_number(exp):
        raise TokenRefused(Reason.EXP)
    if exp <= now - issuer.leeway:
        raise TokenRefused(Reason.EXP_PAST)


def check_nbf(given: RuleInput) -> None:
    if "nbf" not in given.claims:
        return
    nbf = given.claims["nbf"]
    if not _is_number(nbf):
        raise TokenRefused(Reason.NBF)
    if nbf > given.now + given.issuer.leeway:
        raise TokenRefused(Reason.NBF_FUTURE)


def check_jti(given: RuleInput) -> None:
    if not _is_id(given.claims.get("jti")):
        raise TokenRefused(Reason.JTI)


def check_events(given: RuleInput) -> None:
    events = given.claims.get("events")
    if not isinstance(events, dict):
        raise TokenRefused(Reason.EVENTS)
    if not isinstance(events.get(EVENT), dict):
        raise TokenRefused(Reason.EVENTS_MEMBER)


def check_nonce(given: RuleInput) -> None:
    # Section 2.4: prohibited, so that an ID token never passes for a logout token.
    if "nonce" in given.claims:
        raise TokenRefused(Reason.NONCE)


def check_subject(given: RuleInput) -> None:
    claims = given.claims
    if "sub" in claims and not _is_id(claims["sub"]):
        raise TokenRefused(Reason.SUB)
    if "sid" in claims and not _is_id(claims["sid"]):
        raise TokenRefused(Reason.SID)
    if "sub" not in claims and "sid" not in claims:
        raise TokenRefused(Reason.SUBJECT_MISSING)


RULES: tuple[tuple[str, Callable[[RuleInput], None]], ...] = (
    ("aud", check_aud),
    ("iat", check_iat),
    ("exp", check_exp),
    ("nbf", check_nbf),
    ("jti", check_jti),
    ("events", check_events),
    ("nonce", check_nonce),
    ("sub, sid", check_subject),
)
"""Each rule with its name for people, in the deciding order."""


def check_claims(claims: Mapping[str, Any], issuer: IssuerSettings, *, now: float) -> None:
    """Apply every rule to claims, verified or not. Raises `TokenRefused`."""
    given = RuleInput(claims, issuer, now)
    for _, check in RULES:
        check(given)


def validate(signed: SignedClaims, *, now: float) -> LogoutToken:
    """Apply every rule. ``now`` is in epoch seconds. Raises `TokenRefused`.

    Does not detect replays: only the write to Redis can.
    """
    claims, issuer = signed.claims, signed.issuer
    check_claims(claims, issuer, now=now)
    return LogoutToken(
        issuer,
        tuple(_named_clients(issuer, _audiences(claims))),
        claims["iat"],
        claims["jti"],
        claims.get("sub"),
        claims.get("sid"),
        claims["events"].get("revoke_offline_access") is True,
    )


def _named_clients(issuer: IssuerSettings, audiences: list[str]) -> list[str]:
    """The issuer's clients among the audiences, in the order of the settings."""
    return [client_id for client_id in issuer.client_ids if client_id in audiences]


def _audiences(claims: Mapping[str, Any]) -> Any:
    """``aud``, a single string as a list of one."""
    aud = claims.get("aud")
    return [aud] if isinstance(aud, str) else aud


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, _NUMBERS) and not isinstance(value, bool)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_ID
