"""The canary's issuer, created at each start with a key that never leaves the process."""

import json
import secrets

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from app.config.canary import CanarySettings
from app.config.issuers import ClientSettings, IssuerSettings
from app.config.model import Settings
from app.tokens.jwks import KeySet, read_key_set

ISSUER = "https://canary.invalid"
"""RFC 6761 reserves ``.invalid``, so no real issuer has this name."""

_ALGORITHM = "ES256"
_EVENT = "http://schemas.openid.net/event/backchannel-logout"
_TOKEN_LIFE = 60

# An attempt takes seconds, so its markers can expire soon.
_SESSION_AGE = 60


class CanaryIssuer(IssuerSettings):
    """An issuer like those of the settings, with its public keys."""

    jwks: bytes

    @property
    def key_set(self) -> KeySet:
        return read_key_set(self.jwks)


class Signer:
    """Signs the canary's logout tokens."""

    def __init__(self) -> None:
        self._kid = secrets.token_hex(8)
        self._key = ec.generate_private_key(ec.SECP256R1())

    def issuer(self, canary: CanarySettings) -> CanaryIssuer:
        """The issuer whose keys verify the tokens."""
        public = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        public |= {"kid": self._kid, "use": "sig", "alg": _ALGORITHM}
        client = ClientSettings(client_id="canary", app=canary.app, max_session_age=_SESSION_AGE)
        return CanaryIssuer(
            issuer=ISSUER,
            algorithms=(_ALGORITHM,),
            strict=True,
            clients=(client,),
            jwks=json.dumps({"keys": [public]}).encode(),
        )

    def token(self, sid: str, now: float) -> str:
        """A logout token that ends this session."""
        claims = {
            "iss": ISSUER, "aud": "canary", "iat": int(now), "exp": int(now) + _TOKEN_LIFE,
            "jti": secrets.token_hex(16), "sid": sid, "events": {_EVENT: {}},
        }  # fmt: skip
        headers = {"kid": self._kid, "typ": "logout+jwt"}
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM, headers=headers)


def with_canary(settings: Settings) -> tuple[Settings, Signer | None]:
    """The settings with the canary's issuer added, if there is a canary."""
    if settings.canary is None:
        return settings, None
    signer = Signer()
    issuers = (*settings.issuers, signer.issuer(settings.canary))
    return settings.model_copy(update={"issuers": issuers}), signer
