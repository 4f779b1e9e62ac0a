"""One JSON Web Key Set (RFC 7517) of an issuer: which of its keys can prove a signature."""

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from jwt.algorithms import (
    Algorithm,
    ECAlgorithm,
    OKPAlgorithm,
    RSAAlgorithm,
    get_default_algorithms,
)
from jwt.exceptions import InvalidKeyError

# RFC 7518 section 3.3: a key of 2048 bits or larger must be used.
_SMALLEST_RSA_BITS = 2048

# No provider publishes more; without a kid each fitting key costs one verification.
MOST_KEYS = 64

_PUBLIC_MEMBERS = ("kty", "n", "e", "crv", "x", "y")

_READERS: dict[str, type[RSAAlgorithm] | type[ECAlgorithm] | type[OKPAlgorithm]] = {
    "RSA": RSAAlgorithm,
    "EC": ECAlgorithm,
    "OKP": OKPAlgorithm,
}

_FITS: dict[tuple[str, str | None], frozenset[str]] = {
    ("RSA", None): frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    # RFC 9864 names the curve in alg; EdDSA is the older name for both.
    ("OKP", "Ed25519"): frozenset({"EdDSA", "Ed25519"}),
    ("OKP", "Ed448"): frozenset({"EdDSA"}),
}

_ALGORITHMS: dict[str, Algorithm] = {
    name: algorithm
    for name, algorithm in get_default_algorithms().items()
    if any(name in fits for fits in _FITS.values())
}
_ALGORITHMS["Ed25519"] = _ALGORITHMS["EdDSA"]

# PyJWT makes these anew for each signature and asks whether the key is a private one: with RS256,
# which nearly all providers use, that is a tenth of a verification.
_PKCS1V15 = padding.PKCS1v15()
_PKCS1V15_HASHES: dict[str, hashes.HashAlgorithm] = {
    "RS256": hashes.SHA256(),
    "RS384": hashes.SHA384(),
    "RS512": hashes.SHA512(),
}


class Proof(Enum):
    """What a key set says of a signature."""

    VERIFIED = "verified"
    WRONG = "wrong"
    """The key of this ``kid`` has not made this signature."""
    KEY_MISMATCH = "key_mismatch"
    """The key of this ``kid`` is not for this ``alg``."""
    NO_KEY = "no_key"
    """No key of this ``kid``; without a ``kid``, no key has made this signature. Another key
    set may answer otherwise: the only answer that is not final."""


class NotAKeySet(ValueError):
    """Not a JSON Web Key Set, or one without a single key that can be used."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key and the ``alg`` values that it may be used with."""

    kid: str | None
    algorithms: frozenset[str]
    key: Any


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of one fetched set, and how many were passed over."""

    keys: tuple[VerificationKey, ...]
    skipped: int
    _named: dict[str | None, list[VerificationKey]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        for key in self.keys:
            self._named.setdefault(key.kid, []).append(key)

    def has(self, kid: str) -> bool:
        """Whether a key of this name is there: then `prove` is final."""
        return kid in self._named

    def prove(self, alg: str, kid: str | None, signing_input: bytes, signature: bytes) -> Proof:
        """Check a signature. ``alg`` must have been compared with the issuer's list before."""
        named = self.keys if kid is None else self._named.get(kid, ())
        fits = False
        for key in named:
            if alg in key.algorithms:
                if _verifies(alg, key.key, signing_input, signature):
                    return Proof.VERIFIED
                fits = True
        if kid is None or not named:
            return Proof.NO_KEY
        return Proof.WRONG if fits else Proof.KEY_MISMATCH


def _verifies(alg: str, key: Any, signing_input: bytes, signature: bytes) -> bool:
    hash_algorithm = _PKCS1V15_HASHES.get(alg)
    if hash_algorithm is None:
        return _ALGORITHMS[alg].verify(signing_input, key, signature)
    try:
        key.verify(signature, signing_input, _PKCS1V15, hash_algorithm)
    except InvalidSignature:
        return False
    return True


def read_key_set(document: bytes) -> KeySet:
    """Read a fetched set. Keys that can not be used are passed over, not fatal.

    A set without one usable key raises `NotAKeySet`: the keys that were good until now are
    better than none.
    """
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError):
        raise NotAKeySet("not JSON") from None
    entries = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(entries, list):
        raise NotAKeySet("no member keys")
    usable = [key for entry in entries if (key := _read_key(entry)) is not None][:MOST_KEYS]
    if not usable:
        raise NotAKeySet("no usable key")
    return KeySet(keys=tuple(usable), skipped=len(entries) - len(usable))


def _read_key(entry: object) -> VerificationKey | None:
    """A key for signatures, or None: unreadable, for another use, symmetric or too small."""
    if not isinstance(entry, dict):
        return None
    kty, crv, kid = entry.get("kty"), entry.get("crv"), entry.get("kid")
    if not isinstance(kty, str) or kty not in _READERS or not isinstance(kid, str | None):
        return None
    fits = _FITS.get((kty, None if kty == "RSA" else crv if isinstance(crv, str) else ""))
    if fits is None or entry.get("use", "sig") != "sig":
        return None
    key_ops = entry.get("key_ops", ["verify"])
    if not isinstance(key_ops, list) or "verify" not in key_ops:
        return None
    if kty != "OKP" and (alg := entry.get("alg")) is not None:
        # RFC 7517 section 4.4: the key says what it is for. It can only narrow, never widen.
        # An OKP key is for its curve alone, whichever of the two names it gives.
        fits = frozenset(name for name in fits if name == alg)
    if not fits:
        return None
    try:
        key = _READERS[kty].from_jwk({m: entry[m] for m in _PUBLIC_MEMBERS if m in entry})
    except (InvalidKeyError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        # The library raises all of these for members that are missing or of a wrong type.
        return None
    if kty == "RSA" and key.key_size < _SMALLEST_RSA_BITS:  # type: ignore[union-attr]
        return None
    return VerificationKey(kid=kid, algorithms=fits, key=key)
