"""Private keys for decryption, with joserfc.

Imported by `encrypted_jwt` alone, and only where such keys are configured.
"""

from collections.abc import Mapping

from joserfc.jwe import JWERegistry, decrypt_compact
from joserfc.jwk import ECKey, RSAKey

from app.errors import fault_of
from app.tokens.encrypted_jwt import ALGORITHMS, METHODS

# Unknown header members are ignored (RFC 7516 section 4): claims may be repeated there. The library
# knows nothing outside of `algorithms`: no `zip`, no other `alg` or `enc`.
_REGISTRY = JWERegistry(algorithms=[*ALGORITHMS, *METHODS], strict_check_header=False)


class PrivateKey:
    """A key for one of `ALGORITHMS`, from PEM."""

    def __init__(self, alg: str, pem: bytes) -> None:
        reader = RSAKey if alg == "RSA-OAEP-256" else ECKey
        self._key: RSAKey | ECKey = reader.import_key(pem)

    def may_decrypt(self, header: Mapping[str, object], encrypted_key: bytes) -> bool:
        """Whether the token is encrypted to a key of this size (RFC 8017, 7.1.1) or curve. Costs
        no private-key operation."""
        if isinstance(self._key, RSAKey):
            size = (self._key.raw_value.key_size + 7) // 8
            return len(encrypted_key) * 3 // 4 == size
        epk = header.get("epk")
        return isinstance(epk, dict) and epk.get("crv") == self._key.curve_name

    def decrypt(self, token: bytes) -> bytes | None:
        """The plaintext; None if this key does not decrypt the token."""
        try:
            decrypted = decrypt_compact(token, self._key, registry=_REGISTRY)
        except BaseException as error:  # noqa: BLE001  the library raises anything
            fault_of(error)
            return None
        return decrypted.plaintext or b""
