"""A JSON Web Key Set (RFC 7517) of an issuer: reads it and verifies signatures with its keys.

The cost of a token is bounded, whatever the issuer publishes: keys that are too large are skipped,
and only a few of the keys that fit a token are tried. All issuers share one event loop.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from jwt.algorithms import (
    Algorithm,
    ECAlgorithm,
    OKPAlgorithm,
    RSAAlgorithm,
    get_default_algorithms,
)
from jwt.exceptions import InvalidKeyError

from app.errors import LibraryPanic, fault_of
from app.tokens.verification_cost import TriedKeys, cost_of_curve, cost_of_rsa

# RFC 7518 section 3.3: a key of 2048 bits or larger must be used.
_MIN_RSA_BITS = 2048

# OpenSSL verifies up to 16,384 bits, but no provider publishes such keys. Doubling the bits
# quadruples the time of a verification.
_MAX_RSA_BITS = 8192

# Nearly all keys have 65537. Each bit costs a multiplication, so an exponent as long as the modulus
# costs as much as signing.
_MAX_RSA_EXPONENT_BITS = 32

# No provider publishes more.
MAX_KEYS = 64

# Entries looked at, usable or not: the largest document has thousands.
MAX_ENTRIES = 4 * MAX_KEYS

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


class KeyMatch(Enum):
    """The result of verifying a signature with a key set."""

    VERIFIED = "verified"
    WRONG = "wrong"
    """Not signed with the key of this ``kid``."""
    KEY_MISMATCH = "key_mismatch"
    """The key of this ``kid`` is not for this ``alg``."""
    NO_KEY = "no_key"
    """No key of this ``kid``; without a ``kid``, not signed with any key. The only result which is
    not final: another key set may give another."""


class NotAKeySet(ValueError):
    """Not a JSON Web Key Set, or one without a single usable key."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key and the ``alg`` values it may be used with."""

    kid: str | None
    algorithms: frozenset[str]
    key: Any
    cost: int
    """Of one verification (`verification_cost`)."""


_ByAlgorithm = dict[str, list[VerificationKey]]


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of one fetched set, and how many were skipped."""

    keys: tuple[VerificationKey, ...]
    skipped: int
    unused: list[tuple[VerificationKey, Callable[[], None]]] = field(
        repr=False, compare=False, default_factory=list
    )
    """Keys that have not verified a token yet, each with a callback for when it does."""
    by_kid: dict[str | None, _ByAlgorithm] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    """For a name in here, the result of `verify` is final."""
    _all: _ByAlgorithm = field(init=False, repr=False, compare=False, default_factory=dict)
    """The keys tried for a token without a ``kid``."""

    def __post_init__(self) -> None:
        for key in self.keys:
            named = self.by_kid.setdefault(key.kid, {})
            for alg in key.algorithms:
                named.setdefault(alg, []).append(key)
        # A provider which names no key in its tokens usually has no names for its keys either.
        tried = TriedKeys()
        for key in sorted(self.keys, key=lambda key: key.kid is not None):
            for alg in key.algorithms:
                if tried.take(None, (alg,), key.cost):
                    self._all.setdefault(alg, []).append(key)

    def verify(self, alg: str, kid: str | None, signing_input: bytes, signature: bytes) -> KeyMatch:
        """Verify a signature. The caller has checked that ``alg`` is one of the issuer's."""
        named = self._all if kid is None else self.by_kid.get(kid)
        if named is None:
            return KeyMatch.NO_KEY
        fitting = named.get(alg, ())
        for key in fitting:
            if _ALGORITHMS[alg].verify(signing_input, key.key, signature):
                if self.unused:
                    self._used(key)
                return KeyMatch.VERIFIED
        if kid is None:
            return KeyMatch.NO_KEY
        return KeyMatch.WRONG if fitting else KeyMatch.KEY_MISMATCH

    def _used(self, key: VerificationKey) -> None:
        callbacks = [callback for unused, callback in self.unused if unused == key]
        for callback in callbacks:
            callback()
        self.unused[:] = [entry for entry in self.unused if entry[1] not in callbacks]

    def replaces(self, former: "KeySet") -> None:
        """Take over the callbacks of keys which ``former`` had, too."""
        self.unused.extend(entry for entry in former.unused if entry[0] in self.keys)


def read_key_set(document: bytes) -> KeySet:
    """Read a fetched set, skipping keys which cannot be used.

    Raises `NotAKeySet` if none can: the previous keys are better than none.
    """
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError):
        raise NotAKeySet("not JSON") from None
    entries = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(entries, list):
        raise NotAKeySet("no member keys")
    usable: list[VerificationKey] = []
    tried = TriedKeys()
    for entry in entries[:MAX_ENTRIES]:
        if len(usable) == MAX_KEYS:
            break
        # Keys that would not be tried are not parsed: that takes as long as a verification.
        algorithms = _algorithms_of(entry)
        if not algorithms or not tried.have_room(entry.get("kid"), algorithms):
            continue
        key = _read_key(entry, algorithms)
        if key is not None and tried.take(key.kid, algorithms, key.cost):
            usable.append(key)
    if not usable:
        raise NotAKeySet("no usable key")
    return KeySet(keys=tuple(usable), skipped=len(entries) - len(usable))


def _algorithms_of(entry: Any) -> frozenset[str]:
    """The algorithms of a key by its description; empty if it is malformed, symmetric, or for
    another use."""
    none = frozenset[str]()
    if not isinstance(entry, dict):
        return none
    kty, crv, kid = entry.get("kty"), entry.get("crv"), entry.get("kid")
    if not isinstance(kty, str) or kty not in _READERS or not isinstance(kid, str | None):
        return none
    fits = _FITS.get((kty, None if kty == "RSA" else crv if isinstance(crv, str) else ""))
    if fits is None or entry.get("use", "sig") != "sig":
        return none
    key_ops = entry.get("key_ops", ["verify"])
    if not isinstance(key_ops, list) or "verify" not in key_ops:
        return none
    if kty != "OKP" and (alg := entry.get("alg")) is not None:
        # RFC 7517 section 4.4: the key's own alg can only narrow the choice, never widen it. An OKP
        # key is for its curve alone, under either of the two names.
        fits = frozenset(name for name in fits if name == alg)
    return fits


def _read_key(entry: dict[str, Any], algorithms: frozenset[str]) -> VerificationKey | None:
    """The key of an entry; None if it is malformed, too small or too large."""
    kty = entry["kty"]
    key = _public_key(kty, entry)
    if key is None or (kty == "RSA" and not _fits_in_size(key)):
        return None
    cost = cost_of_rsa(key.public_numbers()) if kty == "RSA" else cost_of_curve(entry["crv"])
    return VerificationKey(kid=entry.get("kid"), algorithms=algorithms, key=key, cost=cost)


def _public_key(kty: str, entry: dict[str, Any]) -> Any:
    """The library's key object; None if it cannot read the entry."""
    try:
        return _READERS[kty].from_jwk({m: entry[m] for m in _PUBLIC_MEMBERS if m in entry})
    except (InvalidKeyError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        # The library raises all of these for members that are missing or of the wrong type.
        return None
    except BaseException as error:
        if isinstance(fault_of(error), LibraryPanic):
            return None
        raise


def _fits_in_size(key: Any) -> bool:
    """Whether an RSA key is neither too weak nor too slow."""
    exponent: int = key.public_numbers().e
    if exponent.bit_length() > _MAX_RSA_EXPONENT_BITS:
        return False
    bits: int = key.key_size
    return _MIN_RSA_BITS <= bits <= _MAX_RSA_BITS
