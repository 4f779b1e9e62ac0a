"""A signed JWT (RFC 7519, RFC 7515 compact form) up to the point where its claims are proven.

What kind of token it is, is not asked here: other signed tokens can use this module. Nothing
but the issuer's own configuration and keys decides how a signature is checked: `jku`, `x5u`,
`jwk` and `x5c` of the header are never read.
"""

import asyncio
import binascii
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from app.config.issuers import IssuerSettings
from app.config.types import SHARED_SECRET
from app.errors import DependencyUnavailable, Outage, Reason, TokenRefused
from app.tokens.client_algorithms import check_alg, is_signed_by_secret
from app.tokens.jwks import KeyMatch, KeySet
from app.tokens.provider_keys import LONGEST_WAIT, ProviderKeys
from app.tokens.strict_json import NotStrictJson, strict_object

_Issuer = TypeVar("_Issuer")


class UnverifiedJwt(NamedTuple):
    """A well-formed token that anybody may have written."""

    unverified_header: dict[str, Any]
    unverified_claims: dict[str, Any]
    signing_input: bytes
    signature: bytes


class SignedClaims(NamedTuple):
    """Claims that the issuer has signed. What they claim is not judged yet."""

    claims: dict[str, Any]
    header: dict[str, Any]
    issuer: IssuerSettings


def parse(token: bytes) -> UnverifiedJwt:
    """Take a compact token apart. Refuses with `SHAPE`, `ENCRYPTED`, `*_JSON`."""
    segments = token.split(b".")
    if len(segments) == 5:
        raise TokenRefused(Reason.ENCRYPTED)
    if len(segments) != 3:
        raise TokenRefused(Reason.SHAPE)
    head, body, end = segments
    header = _known_header(head) if len(head) <= _LONGEST_KNOWN_HEADER else None
    raw_header = b"" if header is not None else _base64url(head)
    payload, signature = _base64url(body), _base64url(end)
    if header is None:
        header = _object(raw_header, Reason.HEADER_JSON)
    return UnverifiedJwt(
        unverified_header=header,
        unverified_claims=_object(payload, Reason.PAYLOAD_JSON),
        signing_input=token[: len(head) + 1 + len(body)],
        signature=signature,
    )


# Real ones have 60 to 150 characters; all that are kept together are 128 KiB at the most.
_LONGEST_KNOWN_HEADER = 512


@lru_cache(maxsize=256)
def _known_header(segment: bytes) -> dict[str, Any] | None:
    """The header of this spelling, which all tokens of one key share; None where it is none.

    It depends on these bytes alone, so it is taken apart once. Nobody changes it.
    """
    try:
        return strict_object(_base64url(segment))
    except (TokenRefused, NotStrictJson):
        return None  # refused in its turn: the shape of the others comes first


def _base64url(segment: bytes) -> bytes:
    """Decode one segment (RFC 7515 appendix C), in its one canonical spelling only.

    The library's decoder, even where it is strict, does not look at the unused bits of the last
    character, so that several texts would decode alike.
    """
    padding, last = _ENDS[len(segment) % 4]
    try:
        decoded = binascii.a2b_base64(segment.translate(_TO_STANDARD) + padding, strict_mode=True)
    except binascii.Error:
        raise TokenRefused(Reason.SHAPE) from None
    if not decoded or segment[-1] not in last:
        raise TokenRefused(Reason.SHAPE)
    return decoded


# The alphabet of URLs to the standard one, whose own three characters become foreign.
_TO_STANDARD = bytes.maketrans(b"-_+/=", b"+/!!!")

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

_ENDS = ((b"", _ALPHABET), (b"===", b""), (b"==", _ALPHABET[::16]), (b"=", _ALPHABET[::4]))
"""By the length modulo four: the padding, and the last characters whose unused bits are zero. One
character alone is no byte."""


def check_segments(segments: Iterable[bytes]) -> None:
    """Those of an encryption, some of which may be empty. Refuses with `SHAPE`."""
    for segment in filter(None, segments):
        _base64url(segment)


def strict_header(segment: bytes) -> dict[str, Any]:
    """The header of an encryption. Refuses with `ENCRYPTION_HEADER`."""
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
    """The configured issuer that the token names, byte by byte. Costs no cryptography.

    The claim is not proven yet; it only selects whose keys must prove it.
    """
    unverified_iss = jwt.unverified_claims.get("iss")
    if not isinstance(unverified_iss, str):
        raise TokenRefused(Reason.ISS)
    try:
        return issuers[unverified_iss]
    except KeyError:
        raise TokenRefused(Reason.ISS_UNKNOWN) from None


# A token without typ, or with the general one, is what Auth0, Hydra and others send; the
# specification only recommends logout+jwt (section 2.4). Any other typ (at+jwt, ...) says
# that this is another kind of token. RFC 7515 section 4.1.9: application/ may be left out, or not.
ANY_JWT = frozenset({"jwt", "application/jwt"})
"""What a signed token may be called where its kind is not said, in lower case."""


def check_header(jwt: UnverifiedJwt, issuer: IssuerSettings, typs: frozenset[str]) -> None:
    """``alg``, ``typ`` and ``crit``. ``typs``: the lower-case types of the kind of token."""
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
        # RFC 7515 section 4.1.11: an extension that is not understood must refuse the token.
        raise TokenRefused(Reason.CRIT)
    if "kid" in header and not isinstance(header["kid"], str):
        raise TokenRefused(Reason.KID)


async def verify(
    jwt: UnverifiedJwt,
    issuer: IssuerSettings,
    keys: ProviderKeys,
    *,
    arrived_at: float,
    until: float | None = None,
) -> SignedClaims:
    """Prove the signature with the issuer's keys, fetching them anew where that can help.

    ``arrived_at`` is when the token reached us, in epoch seconds; ``until``, in the event
    loop's time, is when to give up waiting for keys (`LONGEST_WAIT` from now). Raises
    `TokenRefused` for a token that no key of the issuer can have signed,
    `DependencyUnavailable` while that is not certain.
    """
    if jwt.unverified_header["alg"] == SHARED_SECRET:
        return _verify_by_secret(jwt, issuer)
    if until is None:
        until = asyncio.get_running_loop().time() + LONGEST_WAIT
    proof = _prove(jwt, keys.current())
    # The fetch under way may have begun before the provider published the key: hence two.
    for fetch in (keys.joined, keys.fetched):
        if proof is not KeyMatch.NO_KEY:
            break
        proof = _prove(jwt, await fetch(until))
    return _concluded(proof, jwt, issuer, keys, arrived_at)


def keys_at_hand(jwt: UnverifiedJwt, keys: ProviderKeys) -> KeySet | None:
    """The cached keys, if the one that the token names is among them: then no fetch can change what
    `verify` says.

    The header must have been checked.
    """
    key_set, kid = keys.current(), jwt.unverified_header.get("kid")
    return key_set if key_set is not None and kid is not None and key_set.has(kid) else None


def verify_by(jwt: UnverifiedJwt, issuer: IssuerSettings, key_set: KeySet) -> SignedClaims:
    """`verify` with `keys_at_hand`."""
    header = jwt.unverified_header
    if header["alg"] == SHARED_SECRET:
        return _verify_by_secret(jwt, issuer)
    proof = key_set.prove(header["alg"], header["kid"], jwt.signing_input, jwt.signature)
    if proof is not KeyMatch.VERIFIED:
        raise TokenRefused(_REFUSALS[proof])
    return SignedClaims(jwt.unverified_claims, header, issuer)


def verify_at_hand(
    jwt: UnverifiedJwt, issuer: IssuerSettings, keys: ProviderKeys, *, arrived_at: float
) -> SignedClaims:
    """`verify` with the keys that are cached: neither fetches nor waits."""
    if jwt.unverified_header["alg"] == SHARED_SECRET:
        return _verify_by_secret(jwt, issuer)
    return _concluded(_prove(jwt, keys.current()), jwt, issuer, keys, arrived_at)


def _verify_by_secret(jwt: UnverifiedJwt, issuer: IssuerSettings) -> SignedClaims:
    """No key of the issuer is ever taken for a secret, and no secret for a key: `check_header` lets
    this ``alg`` through for a client with a secret alone, and no key set knows it."""
    claims = jwt.unverified_claims
    if not is_signed_by_secret(claims, issuer, jwt.signing_input, jwt.signature):
        raise TokenRefused(Reason.SIGNATURE)
    return SignedClaims(claims, jwt.unverified_header, issuer)


def _concluded(
    proof: KeyMatch,
    jwt: UnverifiedJwt,
    issuer: IssuerSettings,
    keys: ProviderKeys,
    arrived_at: float,
) -> SignedClaims:
    if proof is KeyMatch.VERIFIED:
        return SignedClaims(jwt.unverified_claims, jwt.unverified_header, issuer)
    if proof in _REFUSALS:
        raise TokenRefused(_REFUSALS[proof])
    if keys.fetched_since(arrived_at):
        raise TokenRefused(Reason.KEY_UNKNOWN)
    raise DependencyUnavailable(Outage.KEYS_UNAVAILABLE)


_REFUSALS = {KeyMatch.WRONG: Reason.SIGNATURE, KeyMatch.KEY_MISMATCH: Reason.KEY_MISMATCH}


def _prove(jwt: UnverifiedJwt, key_set: KeySet | None) -> KeyMatch:
    if key_set is None:
        return KeyMatch.NO_KEY
    header = jwt.unverified_header
    return key_set.prove(header["alg"], header.get("kid"), jwt.signing_input, jwt.signature)
