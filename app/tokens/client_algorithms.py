"""Clients with algorithms of their own, or whose tokens are signed with their secret (HS256).

Works on unverified claims. It can only refuse them, or choose the secret which has to verify them:
the signature covers these very claims.
"""

import hmac
from collections.abc import Mapping
from typing import Any

from app.config.issuers import ClientSettings, IssuerSettings
from app.config.types import SHARED_SECRET
from app.errors import Reason, TokenRefused


def check_alg(alg: object, unverified_claims: Mapping[str, Any], issuer: IssuerSettings) -> None:
    """``alg`` must fit every configured client in ``aud``. Refuses with `ALG`, `AUD_NOT_ALONE`.

    A token signed with a client's secret must be for that client alone: otherwise one client could
    sign logouts for others.
    """
    audiences, concerned = _concerned(unverified_claims, issuer)
    if not all(alg in (one.algorithms or issuer.algorithms) for one in concerned):
        raise TokenRefused(Reason.ALG)
    if not concerned and alg not in issuer.algorithms:
        raise TokenRefused(Reason.ALG)
    if alg == SHARED_SECRET and len(audiences) != 1:
        raise TokenRefused(Reason.AUD_NOT_ALONE)


def is_signed_by_secret(
    unverified_claims: Mapping[str, Any],
    issuer: IssuerSettings,
    signing_input: bytes,
    signature: bytes,
) -> bool:
    """Whether the signature is made with the secret of the token's one client.

    `check_alg` must have passed with `SHARED_SECRET`.
    """
    _, concerned = _concerned(unverified_claims, issuer)
    if len(concerned) != 1 or (secret := concerned[0].secret) is None:
        return False
    made = hmac.digest(secret, signing_input, "sha256")
    return hmac.compare_digest(made, signature)


def _concerned(
    unverified_claims: Mapping[str, Any], issuer: IssuerSettings
) -> tuple[list[Any], list[ClientSettings]]:
    """The audiences, and the configured clients among them."""
    aud = unverified_claims.get("aud")
    audiences = aud if isinstance(aud, list) else [aud]
    return audiences, [client for client in issuer.clients if client.client_id in audiences]
