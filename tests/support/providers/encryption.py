"""Encrypts tokens as a provider does, and in ways that no provider should."""

import functools
import json
import warnings
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwe import JWERegistry, encrypt_compact
from joserfc.jwk import ECKey, Key, OctKey, RSAKey

from tests.support.providers.provider import base64url, private_key

RSA, EC = "RSA-OAEP-256", "ECDH-ES"


@functools.cache
def decryption_key(alg: str, which: int = 4, curve: str = "P-256") -> RSAKey | ECKey:
    """A private key of the receiver, different for each ``which``."""
    if alg == RSA:
        return RSAKey.import_key(pem(private_key("RS256", which)))
    curves: dict[str, ec.EllipticCurve] = {
        "P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1(),
        "secp256k1": ec.SECP256K1(),
    }  # fmt: skip
    return ECKey.import_key(pem(ec.generate_private_key(curves[curve])))


def pem(key: Any) -> bytes:
    raw: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return raw


def write_pem(directory: Path, name: str, key: RSAKey | ECKey) -> Path:
    path = directory / name
    path.write_bytes(key.as_pem(private=True))
    return path


def write_jwk(directory: Path, name: str, *keys: tuple[RSAKey | ECKey, dict[str, Any]]) -> Path:
    """Write one JSON Web Key, or a set of several, each with additional members."""
    entries = [dict(key.as_dict(private=True)) | members for key, members in keys]
    path = directory / name
    path.write_text(json.dumps(entries[0] if len(entries) == 1 else {"keys": entries}))
    return path


def encrypt(
    token: str | bytes,
    key: Key,
    *,
    alg: str | None = None,
    enc: str = "A256GCM",
    **header: Any,
) -> str:
    """Encrypt for a key, with additional members of the header. Accepts weak algorithms."""
    if alg is None:
        alg = RSA if isinstance(key, RSAKey) else EC
    members = {"alg": alg, "enc": enc, "cty": "JWT"} | header
    registry = JWERegistry(
        algorithms=[*JWERegistry.algorithms["alg"], *JWERegistry.algorithms["enc"], "DEF"],
        strict_check_header=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the weak ones
        return encrypt_compact(members, token, key, registry=registry)


def password(length: int = 32) -> OctKey:
    return OctKey.import_key(b"p" * length)


def with_header(token: str, header: bytes) -> str:
    """The same token with another header."""
    return ".".join([base64url(header).decode(), *token.split(".")[1:]])
