"""What needs joserfc: imported by `encrypted_jwt` alone, and only where there are such keys."""

from collections.abc import Mapping

from joserfc.jwe import JWERegistry, decrypt_compact
from joserfc.jwk import ECKey, RSAKey

from app.errors import fault_of
from app.tokens.encrypted_jwt import ALGORITHMS, METHODS

# Unknown members are ignored (RFC 7516 section 4), for the names of claims may be repeated there.
# What is not in `algorithms` does not exist for the library: no `zip`, no other `alg` or `enc`.
_REGISTRY = JWERegistry(algorithms=[*ALGORITHMS, *METHODS], strict_check_header=False)


class PrivateKey:
    """One of `ALGORITHMS`, and its key as PEM."""

    def __init__(self, alg: str, pem: bytes) -> None:
        reader = RSAKey if alg == "RSA-OAEP-256" else ECKey
        self._key: RSAKey | ECKey = reader.import_key(pem)

    def can_open(self, header: Mapping[str, object], encrypted_key: bytes) -> bool:
        """Whether the token was encrypted to a key of this size (RFC 8017, 7.1.1) or on this curve:
        what can be asked without a private-key operation."""
        if isinstance(self._key, RSAKey):
            size = (self._key.raw_value.key_size + 7) // 8
            return len(encrypted_key) * 3 // 4 == size
        epk = header.get("epk")
        return isinstance(epk, dict) and epk.get("crv") == self._key.curve_name

    def opened(self, token: bytes) -> bytes | None:
        """What is in an encrypted token; None where this key does not open it."""
        try:
            opened = decrypt_compact(token, self._key, registry=_REGISTRY)
        except BaseException as error:  # noqa: BLE001  the library raises what it likes
            fault_of(error)
            return None
        return opened.plaintext or b""
