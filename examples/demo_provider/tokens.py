"""ID tokens and logout tokens, signed with one RS256 key."""

import secrets
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"

ALGORITHM = "RS256"

ID_TOKEN_SECONDS = 300

# The maximum that Back-Channel Logout 1.0, section 4, recommends.
LOGOUT_TOKEN_SECONDS = 120


def new_key() -> rsa.RSAPrivateKey:
    """A new key pair."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Signer:
    """Signs for ``issuer``. Times in tokens are whole epoch seconds, rounded down."""

    def __init__(self, issuer: str, key: rsa.RSAPrivateKey, clock: Callable[[], float]) -> None:
        self._issuer = issuer
        self._key = key
        self._clock = clock
        self._kid = secrets.token_urlsafe(8)

    def jwks(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set."""
        public = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        jwk = {name: public[name] for name in ("kty", "n", "e")}
        return {"keys": [{**jwk, "kid": self._kid, "use": "sig", "alg": ALGORITHM}]}

    def id_token(self, claims: dict[str, Any]) -> str:
        """Signs an ID token; adds ``iss``, ``iat`` and ``exp``."""
        return self._sign(claims, ID_TOKEN_SECONDS, typ="JWT")

    def logout_token(self, *, client_id: str, user_id: str, sid: str) -> str:
        """A logout token for one client. It always names the session, never only the user.

        A token with ``sub`` alone would also end sessions that the user opens in the same second,
        because its cutoff is a whole second.
        """
        claims = {
            "aud": client_id,
            "sub": user_id,
            "sid": sid,
            "jti": secrets.token_urlsafe(16),
            "events": {LOGOUT_EVENT: {}},
        }
        return self._sign(claims, LOGOUT_TOKEN_SECONDS, typ="logout+jwt")

    def client_of(self, id_token_hint: str) -> str | None:
        """The client of an ID token of ours, even an expired one."""
        try:
            claims = jwt.decode(
                id_token_hint,
                self._key.public_key(),
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                options={"verify_exp": False, "verify_iat": False, "verify_aud": False},
            )
        except jwt.InvalidTokenError:
            return None
        audience = claims.get("aud")
        return audience if isinstance(audience, str) else None

    def _sign(self, claims: dict[str, Any], seconds: int, *, typ: str) -> str:
        now = int(self._clock())
        times = {"iss": self._issuer, "iat": now, "exp": now + seconds}
        return jwt.encode(
            {**times, **claims}, self._key, ALGORITHM, headers={"kid": self._kid, "typ": typ}
        )
