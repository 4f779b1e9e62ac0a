"""Encrypted tokens (RFC 7516, compact form): the signed token inside (RFC 7519, 5.2).

Decryption proves nothing, since anybody can encrypt to a public key: the inner token goes through
every check. Only `ALGORITHMS` and `METHODS` are accepted, each with keys of its own type.
Compression is refused, since a few bytes could expand to very many. There are no passwords (PBES2),
and of the key material that a header can carry only `epk` is read.
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
    """Whether the token has the shape of an encrypted one."""
    return token.count(b".") == SEGMENTS - 1


class Decrypter:
    """The decryption keys of all issuers. ``issuers`` is keyed by every name of each."""

    def __init__(self, issuers: Mapping[str, IssuerSettings]) -> None:
        self._issuers = issuers
        self.keys = list(
            dict.fromkeys(key for issuer in issuers.values() for key in issuer.keys_to_decrypt)
        )
        self._private = {}
        if self.keys:
            from app.tokens.private_key import PrivateKey  # noqa: PLC0415  imports a large library

            self._private = {key: PrivateKey(key.alg, key.pem) for key in self.keys}

    def decrypt(self, token: bytes) -> bytes:
        """The signed token inside an encrypted one, not verified. Raises `TokenRefused`."""
        for key in self.candidates(token):
            if (inner := self.decrypt_with(key, token)) is not None:
                return inner
        raise TokenRefused(Reason.DECRYPTION)

    def candidates(self, token: bytes) -> Sequence[DecryptionKey]:
        """The keys that may fit, found without a private-key operation.

        That is the key which the token names; without a ``kid``, each with its algorithm and its
        size or curve, the most recently successful one first. Raises `TokenRefused`.
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
        # RFC 7519 section 5.2: a nested token MUST say so, and every provider known to encrypt
        # logout tokens does.
        cty = header.get("cty")
        if not isinstance(cty, str) or cty.lower() not in signed_jwt.ANY_JWT:
            raise TokenRefused(Reason.ENCRYPTION_HEADER)
        signed_jwt.check_segments(others)  # the library would skip foreign characters
        return [
            key
            for key in self.keys
            if key.alg == alg
            and kid in (None, key.kid)
            and self._private[key].may_decrypt(header, others[0])
        ]

    def decrypt_with(self, key: DecryptionKey, token: bytes) -> bytes | None:
        """The inner token; None if this key does not decrypt it. Raises `TokenRefused`.

        Costs one private-key operation. ``key`` must come from `candidates`.
        """
        inner = self._private[key].decrypt(token)
        if inner is not None:
            self._check_inner(inner, key)
            if key is not self.keys[0]:
                self.keys.remove(key)
                self.keys.insert(0, key)
        return inner

    def _check_inner(self, inner: bytes, key: DecryptionKey) -> None:
        """Require a signed token, of an issuer that this key is configured for."""
        if is_encrypted(inner):
            raise TokenRefused(Reason.SHAPE)
        iss = signed_jwt.parse(inner).unverified_claims.get("iss")
        issuer = self._issuers.get(iss) if isinstance(iss, str) else None
        if issuer is not None and key not in issuer.keys_to_decrypt:
            raise TokenRefused(Reason.DECRYPTION)
