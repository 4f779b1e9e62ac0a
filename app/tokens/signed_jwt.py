"""Signed JWTs (RFC 7519, JWS compact form of RFC 7515): parse, check the header, verify.

The kind of token is the caller's business, so that access tokens and ID tokens can use this module
too. Only the issuer's own settings and keys decide how a signature is checked: the header's `jku`,
`x5u`, `jwk` and `x5c` are never read.

Fetches nothing; `app.tokens.provider_keys` does. Does not judge what the claims say.
"""

import binascii
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from app.config.issuers import IssuerSettings
from app.config.types import SHARED_SECRET
from app.errors import Reason, TokenRefused
from app.tokens.client_algorithms import check_alg, is_signed_by_secret
from app.tokens.jwks import KeyMatch, KeySet
from app.tokens.strict_json import NotStrictJson, strict_object

_Issuer = TypeVar("_Issuer")


class UnverifiedJwt(NamedTuple):
    """A well-formed token which anybody may have written."""

    unverified_header: dict[str, Any]
    unverified_claims: dict[str, Any]
    signing_input: bytes
    signature: bytes


class SignedClaims(NamedTuple):
    """Claims which the issuer has signed, not validated yet."""

    claims: dict[str, Any]
    header: dict[str, Any]
    issuer: IssuerSettings


def parse(token: bytes) -> UnverifiedJwt:
    """Parse a compact token. Refuses with `SHAPE`, `ENCRYPTED`, `*_JSON`."""
    segments = token.split(b".")
    if len(segments) == 5:
        raise TokenRefused(Reason.ENCRYPTED)
    if len(segments) != 3:
        raise TokenRefused(Reason.SHAPE)
    head, body, end = segments
    header = _cached_header(head) if len(head) <= _MAX_CACHED_HEADER else None
    raw_header = b"" if header is not None else _base64url(head)
    payload, signature = _base64url(body), _base64url(end)
    if header is None:
        header = _object(raw_header, Reason.HEADER_JSON)
    claims = _object(payload, Reason.PAYLOAD_JSON)
    signing_input = token[: len(head) + 1 + len(body)]
    return UnverifiedJwt(header, claims, signing_input, signature)


# Real headers have 60 to 150 characters. The cache holds at most 128 KiB.
_MAX_CACHED_HEADER = 512


@lru_cache(maxsize=256)
def _cached_header(segment: bytes) -> dict[str, Any] | None:
    """The header, which all tokens of one key share; None if it is malformed. Never modified."""
    try:
        return strict_object(_base64url(segment))
    except (TokenRefused, NotStrictJson):
        return None  # `parse` refuses it later: the shape of the other segments comes first


def _base64url(segment: bytes) -> bytes:
    """Decode one segment (RFC 7515 appendix C), in its one canonical form only.

    The standard library ignores the unused bits of the last character even in strict mode, so
    several texts would decode alike.
    """
    padding, last = _ENDS[len(segment) % 4]
    try:
        decoded = binascii.a2b_base64(segment.translate(_TO_STANDARD) + padding, strict_mode=True)
    except binascii.Error:
        raise TokenRefused(Reason.SHAPE) from None
    if not decoded or segment[-1] not in last:
        raise TokenRefused(Reason.SHAPE)
    return decoded


# From the URL-safe alphabet to the standard one, whose own special characters become invalid.
_TO_STANDARD = bytes.maketrans(b"-_+/=", b"+/!!!")

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

_ENDS = ((b"", _ALPHABET), (b"===", b""), (b"==", _ALPHABET[::16]), (b"=", _ALPHABET[::4]))
"""By length modulo four: the padding, and the last characters whose unused bits are zero. A single
character is no byte."""


def check_segments(segments: Iterable[bytes]) -> None:
    """Check the segments of an encrypted token; some may be empty. Refuses with `SHAPE`."""
    for segment in filter(None, segments):
        _base64url(segment)


def strict_header(segment: bytes) -> dict[str, Any]:
    """The header of an encrypted token. Refuses with `ENCRYPTION_HEADER`."""
    try:
        return strict_object(_base64url(segment))
    except (TokenRefused, NotStrictJson):
        raise TokenRefused(Reason.ENCRYPTION_HEADER) from None


def _object(raw: bytes, reason: Reason) -> dict[str, Any]:
    try:
        return strict_object(raw)
    except NotStrictJson:
        raise TokenRefused(reason) from None


def issuer_of(jwt: UnverifiedJwt, issuers: Mapping[str, _Issuer]) -> _Issuer:
    """Look up the configured issuer that ``iss`` names, byte by byte. Costs no cryptography.

    The claim is unverified; it only selects the keys that have to verify it.
    """
    unverified_iss = jwt.unverified_claims.get("iss")
    if not isinstance(unverified_iss, str):
        raise TokenRefused(Reason.ISS)
    try:
        return issuers[unverified_iss]
    except KeyError:
        raise TokenRefused(Reason.ISS_UNKNOWN) from None


# Auth0, Hydra and others send no typ, or the generic one; the specification only recommends
# logout+jwt (section 2.4). Any other typ (at+jwt, ...) marks another kind of token.
# RFC 7515 section 4.1.9: the prefix application/ is optional.
ANY_JWT = frozenset({"jwt", "application/jwt"})
"""``typ`` values, in lower case, which do not name the kind of token."""


def check_header(jwt: UnverifiedJwt, issuer: IssuerSettings, typs: frozenset[str]) -> None:
    """Check ``alg``, ``typ``, ``crit`` and ``kid``. ``typs``: accepted types in lower case."""
    header = jwt.unverified_header
    alg = header.get("alg")
    if not isinstance(alg, str) or alg not in issuer.algorithms or issuer.clients_differ:
        check_alg(alg, jwt.unverified_claims, issuer)
    if "typ" in header or issuer.strict:
        typ = header.get("typ")
        named = typ.lower() if isinstance(typ, str) else ""
        if named not in typs and (issuer.strict or named not in ANY_JWT):
            raise TokenRefused(Reason.TYP)
    if "crit" in header:
        # RFC 7515 section 4.1.11: an unknown critical extension must refuse the token.
        raise TokenRefused(Reason.CRIT)
    if "kid" in header and not isinstance(header["kid"], str):
        raise TokenRefused(Reason.KID)


def verify(jwt: UnverifiedJwt, issuer: IssuerSettings, key_set: KeySet | None) -> SignedClaims:
    """Verify the signature with one of these keys. `check_header` must have passed.

    Refuses with `SIGNATURE`, `KEY_MISMATCH` and `KEY_UNKNOWN`; only after the last can a newer key
    set give another answer.
    """
    header, claims = jwt.unverified_header, jwt.unverified_claims
    alg = header["alg"]
    if alg == SHARED_SECRET:
        # Never a key of the issuer used as a secret, nor the reverse: `check_header` accepts this
        # alg only for a client with a secret, and no key set contains it.
        signed = is_signed_by_secret(claims, issuer, jwt.signing_input, jwt.signature)
        match = KeyMatch.VERIFIED if signed else KeyMatch.WRONG
    elif key_set is None:
        match = KeyMatch.NO_KEY
    else:
        match = key_set.verify(alg, header.get("kid"), jwt.signing_input, jwt.signature)
    if match is not KeyMatch.VERIFIED:
        raise TokenRefused(_REFUSALS[match])
    return SignedClaims(claims, header, issuer)


_REFUSALS = {
    KeyMatch.WRONG: Reason.SIGNATURE,
    KeyMatch.KEY_MISMATCH: Reason.KEY_MISMATCH,
    KeyMatch.NO_KEY: Reason.KEY_UNKNOWN,
}
