"""Decryption keys and secrets, from the settings or from files.

Files are read together with the settings, so that a fault is found at the start. No key and no
secret appears in a fault, a log or a ``repr``.
"""

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from app.config.types import Form, Listed

# RFC 7518 sections 4.2 and 4.3: 2048 bits or larger.
_MIN_RSA_BITS = 2048

_CURVES = {"secp256r1", "secp384r1", "secp521r1"}

# RFC 7518 section 3.2: as long as the hash; OpenID Connect Core 1.0, section 16.19, for client
# secrets. A shorter one can be guessed from a single token, and then signs logouts for any user.
_MIN_SHARED_SECRET_BYTES = 32

_MAX_SECRET_LENGTH = 16384

# A set of a few private keys has some kilobytes.
_MAX_FILE_BYTES = 64 << 10

# A token without a kid, which anyone can send, costs an operation with each of them.
_MAX_DECRYPTION_KEYS = 8


@dataclass(frozen=True)
class DecryptionKey:
    """A private key for encrypted tokens, and its one ``alg``."""

    kid: str
    """From the JSON Web Key; otherwise the key's thumbprint (RFC 7638)."""
    alg: str
    pem: bytes = field(repr=False)
    """PKCS 8."""
    public: dict[str, str] = field(repr=False, hash=False, compare=False)
    """The public JSON Web Key, which the provider needs."""


def read_decryption_keys(value: object) -> tuple[DecryptionKey, ...]:
    """Read a file with PEM, a JSON Web Key, or a set of them. Raises ``ValueError``."""
    raw = _read(value)
    keys = tuple(_from_set(raw)) if raw.lstrip().startswith(b"{") else (_from_pem(raw),)
    if not keys:
        raise ValueError("contains no key")
    return keys


def _from_pem(raw: bytes) -> DecryptionKey:
    try:
        key = load_pem_private_key(raw, password=None)
    except TypeError:
        raise ValueError("the key has a passphrase; store it without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("is neither a private key in PEM nor a JSON Web Key") from None
    return _checked(key, {})


def _from_set(raw: bytes) -> Iterator[DecryptionKey]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        raise ValueError("is neither a private key in PEM nor a JSON Web Key") from None
    entries = document.get("keys", [document])
    for entry in entries if isinstance(entries, list) else []:
        yield _from_jwk(entry)


def _from_jwk(jwk: object) -> DecryptionKey:
    kty = jwk.get("kty") if isinstance(jwk, dict) else None
    if not isinstance(jwk, dict) or kty not in ("RSA", "EC"):
        raise ValueError("a decryption key has the type RSA or EC")
    if jwk.get("use", "enc") != "enc":
        raise ValueError("the key is not for encryption (use)")
    try:
        key = RSAAlgorithm.from_jwk(jwk) if kty == "RSA" else ECAlgorithm.from_jwk(jwk)
    except (InvalidKeyError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        # The library raises all of these for missing members and members of a wrong type.
        raise ValueError("is not a usable JSON Web Key") from None
    return _checked(key, jwk)


def _checked(key: object, jwk: dict[str, Any]) -> DecryptionKey:
    if isinstance(key, RSAPrivateKey):
        if key.key_size < _MIN_RSA_BITS:
            raise ValueError(f"an RSA key needs {_MIN_RSA_BITS} bits or more")
        alg = "RSA-OAEP-256"
        public: dict[str, Any] = dict(RSAAlgorithm.to_jwk(key.public_key(), as_dict=True))
    elif isinstance(key, EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        alg, public = "ECDH-ES", dict(ECAlgorithm.to_jwk(key.public_key(), as_dict=True))
    else:
        raise ValueError("a decryption key is a private RSA key, or one of P-256, P-384 or P-521")
    if jwk.get("alg", alg) != alg:
        raise ValueError(f"the key is for another alg than {alg}")
    members: dict[str, str] = {
        name: public[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in public
    }
    kid = jwk.get("kid") or _thumbprint(members)
    if not isinstance(kid, str):
        raise ValueError("the key's kid is not a string")  # noqa: TRY004  pydantic reports it
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return DecryptionKey(kid, alg, pem, members | {"use": "enc", "alg": alg, "kid": kid})


def _thumbprint(members: dict[str, str]) -> str:
    """RFC 7638: the required members, in the order of their names, without white space."""
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def _read(value: object) -> bytes:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must name a file")
    try:
        with Path(value).open("rb") as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    if len(raw) > _MAX_FILE_BYTES:
        raise ValueError("is larger than 64 KiB")
    return raw


def _read_secret(value: object) -> str:
    """The text of a file, without the newline that editors add at the end."""
    try:
        return _read(value).decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None


def _check_length(secret: SecretStr) -> SecretStr:
    if not 1 <= len(secret.get_secret_value()) <= _MAX_SECRET_LENGTH:
        raise ValueError(f"a secret has 1 to {_MAX_SECRET_LENGTH} characters")
    return secret


def _check_shared_length(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode("utf-8", "replace")) < _MIN_SHARED_SECRET_BYTES:
        raise ValueError(
            f"a secret for HS256 needs {_MIN_SHARED_SECRET_BYTES} bytes or more (RFC 7518, 3.2)"
        )
    return secret


def _check_kids(files: tuple[tuple[DecryptionKey, ...], ...]) -> Any:
    kids = [key.kid for keys in files for key in keys]
    if len(kids) > _MAX_DECRYPTION_KEYS:
        raise ValueError(f"at most {_MAX_DECRYPTION_KEYS} keys")
    if len(set(kids)) < len(kids):
        raise ValueError("two keys have the same kid")
    return files


Secret = Annotated[SecretStr, AfterValidator(_check_length)]
SecretFile = Annotated[Secret, BeforeValidator(_read_secret), Form("path")]
"""The path of a file; the value is the secret in it."""

ClientSecret = Annotated[Secret, AfterValidator(_check_shared_length)]
ClientSecretFile = Annotated[ClientSecret, BeforeValidator(_read_secret), Form("path")]
"""The path of a file; the value is the secret in it."""

KeyFile = Annotated[tuple[DecryptionKey, ...], BeforeValidator(read_decryption_keys)]
KeyFiles = Annotated[
    tuple[KeyFile, ...],
    Listed,
    Field(min_length=1),
    AfterValidator(_check_kids),
    Form("list of paths"),
]
"""Paths of files; the value is the keys in each."""
