"""Checks the claims of a verified ID token (OpenID Connect Core 1.0, 3.1.3.7). Pure."""

from collections.abc import Mapping
from typing import Any, TypeGuard

from app.config.admin_oidc import AdminOidcSettings, RequiredClaim


def is_for_us(
    claims: Mapping[str, Any], oidc: AdminOidcSettings, nonce: str, *, now: float, leeway: float
) -> bool:
    """Whether it is from this issuer, for this client and this sign-in, and currently valid."""
    aud = claims.get("aud")
    audiences = aud if isinstance(aud, list) else [aud]
    exp, iat, sub = claims.get("exp"), claims.get("iat"), claims.get("sub")
    return (
        claims.get("iss") == oidc.issuer
        and oidc.client_id in audiences
        and claims.get("azp", oidc.client_id) == oidc.client_id
        and _is_number(exp)
        and exp > now - leeway
        and _is_number(iat)
        and iat < now + leeway
        and claims.get("nonce") == nonce
        and isinstance(sub, str)
        and sub != ""
    )


def has(claims: Mapping[str, Any], required: RequiredClaim) -> bool:
    """Whether the claim has the required value, or is a list that contains it."""
    value = claims.get(required.name)
    return value == required.value or (isinstance(value, list) and required.value in value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
