"""What an ID token must say once it is verified (OpenID Connect Core 1.0, 3.1.3.7). Pure."""

from collections.abc import Mapping
from typing import Any, TypeGuard

from app.config.admin_oidc import AdminOidcSettings, RequiredClaim


def is_for_us(
    claims: Mapping[str, Any], oidc: AdminOidcSettings, nonce: str, *, now: float, leeway: float
) -> bool:
    """Whether it is of this issuer, for this client and this sign-in, and in its time."""
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
    """Whether the claim is there: with the value, or with a list that holds it."""
    found = claims.get(required.name)
    return found == required.value or (isinstance(found, list) and required.value in found)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
