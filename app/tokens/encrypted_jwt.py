"""An encrypted token (RFC 7516, compact form) up to the signed token that is in it (RFC 7519, 5.2).

Decryption proves nothing, for anybody can encrypt to a public key: what comes out goes the way of
every token. Only the algorithms of `ALGORITHMS` and `METHODS` are taken, each with keys of its own
type; compression is refused, for a few bytes could become very many; passwords (PBES2) have no key
here; `epk` alone is read of what a header may bring for keys.
"""

from collections.abc import Mapping, Sequence

from app.config.issuers import IssuerSettings
from app.config.secrets import DecryptionKey
from app.errors import Reason, TokenRefused
from app.tokens import signed_jwt

ALGORITHMS = ("RSA-OAEP-256", "ECDH-ES")
METHODS = ("A128CBC-HS256", "A256GCM")

SEGMENTS = 5


def is_encrypted(token: bytes) -> bool:
    """Whether it has the shape of one."""
    return token.count(b".") == SEGMENTS - 1


class Opener:
    """The decryption keys of all issuers. ``issuers`` is keyed by every name of each."""

    def __init__(self, issuers: Mapping[str, IssuerSettings]) -> None:
        self._issuers = issuers
        self.keys = list(
            dict.fromkeys(key for one in issuers.values() for key in one.keys_to_decrypt)
        )
        self._private = {}
        if self.keys:
            from app.tokens.private_key import PrivateKey  # noqa: PLC0415  it brings a library along

            self._private = {key: PrivateKey(key.alg, key.pem) for key in self.keys}

    def open(self, token: bytes) -> bytes:
        """The signed token in an encrypted one, not verified. Raises `TokenRefused`."""
        for key in self.fitting(token):
            if (inner := self.opened_by(key, token)) is not None:
                return inner
        raise TokenRefused(Reason.DECRYPTION)

    def fitting(self, token: bytes) -> Sequence[DecryptionKey]:
        """The keys that can be meant: all that can be asked without a private key.

        The one that the token names; without a ``kid``, each of its algorithm and its size or
        curve, the one that opened the last of these first. Raises `TokenRefused`.
        """
        if not self.keys:
            raise TokenRefused(Reason.ENCRYPTED)
        head, *others = token.split(b".")
        header = signed_jwt.strict_header(head)
        alg, kid = header.get("alg"), header.get("kid")
        if alg not in ALGORITHMS or header.get("enc") not in METHODS:
            raise TokenRefused(Reason.ENCRYPTION_ALG)
        if "zip" in header or "crit" in header or not isinstance(kid, str | None):
            raise TokenRefused(Reason.ENCRYPTION_HEADER)
        # RFC 7519 section 5.2: a token that holds another one MUST say so, and every provider
        # that is known to encrypt logout tokens does.
        cty = header.get("cty")
        if not isinstance(cty, str) or cty.lower() not in signed_jwt.ANY_JWT:
            raise TokenRefused(Reason.ENCRYPTION_HEADER)
        signed_jwt.check_segments(others)  # the library would skip foreign characters
        return [
            key
            for key in self.keys
            if key.alg == alg
            and kid in (None, key.kid)
            and self._private[key].can_open(header, others[0])
        ]

    def opened_by(self, key: DecryptionKey, token: bytes) -> bytes | None:
        """What is in ``token``; None where this key does not open it. Raises `TokenRefused`.

        Costs one private-key operation. `fitting` must have given the key.
        """
        inner = self._private[key].opened(token)
        if inner is not None:
            self._check_inner(inner, key)
            if key is not self.keys[0]:
                self.keys.remove(key)
                self.keys.insert(0, key)
        return inner

    def _check_inner(self, inner: bytes, key: DecryptionKey) -> None:
        """A signed token, of an issuer that this key was given to."""
        if is_encrypted(inner):
            raise TokenRefused(Reason.SHAPE)
        iss = signed_jwt.parse(inner).unverified_claims.get("iss")
        issuer = self._issuers.get(iss) if isinstance(iss, str) else None
        if issuer is not None and key not in issuer.keys_to_decrypt:
            raise TokenRefused(Reason.DECRYPTION)
