"""The cases of token verification: a good token with one thing changed, and the expected result.

Run in process by `test_rules.py`, over HTTP by `tests/backchannel/test_endpoint.py`, and against
any receiver by `tests/conformance`.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from app.errors import Reason
from tests.support.providers.provider import (
    ABSENT,
    EVENT,
    Provider,
    encode_parts,
    private_key,
    public_jwk,
)

Build = Callable[[Provider], str]


@dataclass(frozen=True)
class Case:
    """``expected`` is the reason of the refusal; None if the token is accepted."""

    name: str
    token: Build
    expected: Reason | None = None
    options: str = ""
    """Issuer options as TOML, if the case needs other than the defaults."""

    @property
    def id(self) -> str:
        return f"{self.expected or 'accepted'}: {self.name}".replace(" ", "-")


def claims(**changes: Any) -> Build:
    """A good token with these claims changed."""
    return lambda provider: provider.token(**changes)


def header(**changes: Any) -> Build:
    """A good token with these header parameters changed."""
    return lambda provider: provider.token(header=changes)


def ago(seconds: float) -> int:
    return int(time.time() - seconds)


def iat(offset: float) -> Build:
    """A token made ``offset`` seconds from now."""
    return lambda provider: provider.token(iat=ago(-offset))


def payload(raw: bytes | Callable[[Provider], bytes]) -> Build:
    """A correctly signed token with exactly these bytes as its payload."""

    def build(provider: Provider) -> str:
        kid, key = next(iter(provider.keys.items()))
        body = raw if isinstance(raw, bytes) else raw(provider)
        return encode_parts({"alg": "RS256", "kid": kid}, body, lambda data: _rs256(key, data))

    return build


def with_member(member: str) -> Build:
    """A good payload with this raw text as another member."""

    def raw(provider: Provider) -> bytes:
        return (json.dumps(provider.claims())[:-1] + f", {member}}}").encode(
            "utf-8", "surrogatepass"
        )

    return payload(raw)


def raw_header(raw: bytes) -> Build:
    return lambda provider: encode_parts(raw, provider.claims(), lambda _: b"signature")


def segments(change: Callable[[list[str]], list[str]]) -> Build:
    """A good token with modified segments."""
    return lambda provider: ".".join(change(provider.token().split(".")))


def _rs256(key: Any, data: bytes) -> bytes:
    return RSAAlgorithm(RSAAlgorithm.SHA256).sign(data, key)


def unsigned(provider: Provider) -> str:
    """A classic attack: RFC 7519, section 6.1. No kid, and an empty third segment."""
    return _without_signature(encode_parts({"alg": "none"}, provider.claims(), lambda _: b"x"))


def _unsigned_with_names(provider: Provider) -> str:
    header = {"alg": "none", "kid": "k1", "typ": "logout+jwt"}
    return _without_signature(encode_parts(header, provider.claims(), lambda _: b"x"))


def _without_signature(token: str) -> str:
    return token.rpartition(".")[0] + "."


def _with_alg(alg: str) -> Build:
    """With one byte of a signature, which passes a check of the segments alone."""
    return lambda provider: encode_parts(
        {"alg": alg, "kid": "k1"}, provider.claims(), lambda _: b"x"
    )


def _hmac_with_public_key(provider: Provider) -> str:
    """A classic attack: the public key used as a shared secret."""
    pem = (
        provider.keys["k1"]
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return encode_parts(
        {"alg": "HS256", "kid": "k1"},
        provider.claims(),
        lambda data: hmac.new(pem, data, hashlib.sha256).digest(),
    )


def _jwk_in_header(provider: Provider) -> str:
    """A key in the token itself must be ignored."""
    own = private_key("RS256", 99)
    return provider.token(header={"jwk": public_jwk(own, "k1"), "kid": "k1"}, key=own)


def _other_payload(provider: Provider) -> str:
    first, second = provider.token().split("."), provider.token(sub="mallory").split(".")
    return ".".join((first[0], second[1], first[2]))


def _last_bit(parts: list[str]) -> list[str]:
    """Another encoding of the same bytes: the unused bits of the last character are set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet[alphabet.index(parts[2][-1]) ^ 1]
    return [parts[0], parts[1], parts[2][:-1] + last]


LONG = "x" * 256
FITS = "x" * 255

ACCEPTED = (
    Case("as the specification's example", claims()),
    Case(
        "as the OpenID Foundation's suite sends it",
        lambda p: p.token(header={"typ": ABSENT}, sid='aB3 &%"\\', ignored_claim="ignored"),
    ),
    Case("typ absent", header(typ=ABSENT)),
    Case("typ JWT", header(typ="JWT")),
    Case("typ in another case", header(typ="Logout+JWT")),
    Case("typ with application/", header(typ="application/logout+jwt")),
    Case("typ application/jwt", header(typ="application/jwt")),
    Case("typ application/JWT", header(typ="application/JWT")),
    Case("kid absent", header(kid=ABSENT)),
    Case("jku, x5u and x5c are not looked at", header(jku="https://x.example/", x5u="", x5c=[1])),
    Case("aud an array", lambda p: p.token(aud=[p.client_id])),
    Case("aud an array with foreign audiences", lambda p: p.token(aud=["api://x", p.client_id])),
    Case("exp absent", claims(exp=ABSENT)),
    Case("exp a day ahead", lambda p: p.token(exp=ago(-86400))),
    Case("exp just past, within the leeway", lambda p: p.token(exp=ago(30))),
    Case("nbf ahead, within the leeway", lambda p: p.token(nbf=ago(-30))),
    Case("iat ahead, within the leeway", iat(30)),
    Case("iat old, within max_token_age", iat(-299)),
    Case("iat with a fraction", lambda p: p.token(iat=time.time() - 0.25)),
    Case("sub only", claims(sid=ABSENT)),
    Case("sid only", claims(sub=ABSENT)),
    Case("sid with punctuation", claims(sid='ab/+= &%"\\;ü')),
    Case("jti of the greatest length", claims(jti=FITS)),
    Case("sid of the greatest length", claims(sid=FITS)),
    Case("events with other members of any type", claims(events={EVENT: {}, "x": None, "y": True})),
    Case("the event's own object has members", claims(events={EVENT: {"x": [1]}})),
    Case(
        "claims that nobody knows", claims(trace_id="1", session_metadata={"a": {}}, typ="Logout")
    ),
    Case("strict, and all that it wants", claims(), options="strict = true"),
    Case("require_exp, and it is there", claims(), options="require_exp = true"),
    Case("older than the default, but configured", iat(-500), options="max_token_age = 600"),
)

REFUSED = (
    Case("empty segments", lambda _: "..", Reason.SHAPE),
    Case("no dots", lambda _: "abc", Reason.SHAPE),
    Case("two segments", segments(lambda s: s[:2]), Reason.SHAPE),
    Case("four segments", segments(lambda s: [*s, "x"]), Reason.SHAPE),
    Case("no signature", segments(lambda s: [s[0], s[1], ""]), Reason.SHAPE),
    Case("alg none, unsigned", unsigned, Reason.SHAPE),
    Case("alg none, unsigned, with kid and typ", _unsigned_with_names, Reason.SHAPE),
    Case("padding", segments(lambda s: [s[0], s[1], s[2] + "=="]), Reason.SHAPE),
    Case("white space", segments(lambda s: [s[0], s[1] + "\n", s[2]]), Reason.SHAPE),
    Case("standard base64", segments(lambda s: [s[0], s[1], "+/" + s[2][2:]]), Reason.SHAPE),
    Case("not ASCII", segments(lambda s: [s[0], "é" + s[1], s[2]]), Reason.SHAPE),
    Case("a second spelling of the signature", segments(_last_bit), Reason.SHAPE),
    Case("five segments", lambda _: "e30.x.x.x.x", Reason.ENCRYPTED),
    Case("header not JSON", raw_header(b"{"), Reason.HEADER_JSON),
    Case("header an array", raw_header(b"[]"), Reason.HEADER_JSON),
    Case("header not UTF-8", raw_header(b'{"alg": "\xff"}'), Reason.HEADER_JSON),
    Case("header in UTF-16", raw_header('{"alg": "RS256"}'.encode("utf-16")), Reason.HEADER_JSON),
    Case(
        "header with duplicate alg", raw_header(b'{"alg":"RS256","alg":"none"}'), Reason.HEADER_JSON
    ),
    Case("payload not JSON", payload(b"nope"), Reason.PAYLOAD_JSON),
    Case("payload a string", payload(b'"iss"'), Reason.PAYLOAD_JSON),
    Case("payload null", payload(b"null"), Reason.PAYLOAD_JSON),
    Case("payload with duplicate sid", with_member('"sid": "other"'), Reason.PAYLOAD_JSON),
    Case("duplicate member deep inside", with_member('"x": {"a": 1, "a": 2}'), Reason.PAYLOAD_JSON),
    Case("NaN", with_member('"x": NaN'), Reason.PAYLOAD_JSON),
    Case("Infinity", with_member('"x": -Infinity'), Reason.PAYLOAD_JSON),
    Case("a number that overflows", with_member('"x": 1e999'), Reason.PAYLOAD_JSON),
    Case("an integer of 5000 digits", with_member('"x": ' + "9" * 5000), Reason.PAYLOAD_JSON),
    Case("a lone surrogate", with_member('"x": "\\ud800"'), Reason.PAYLOAD_JSON),
    Case("a lone surrogate as a name", with_member('"\\udfff": 1'), Reason.PAYLOAD_JSON),
    Case("deep nesting", with_member('"x": ' + "[" * 5000 + "]" * 5000), Reason.PAYLOAD_JSON),
    Case(
        "a byte order mark",
        payload(lambda p: b"\xef\xbb\xbf" + json.dumps(p.claims()).encode()),
        Reason.PAYLOAD_JSON,
    ),
    Case("iss absent", claims(iss=ABSENT), Reason.ISS),
    Case("iss null", claims(iss=None), Reason.ISS),
    Case("iss an array", lambda p: p.token(iss=[p.issuer]), Reason.ISS),
    Case("iss unknown", claims(iss="https://other.example"), Reason.ISS_UNKNOWN),
    Case("iss with a slash more", lambda p: p.token(iss=p.issuer + "/"), Reason.ISS_UNKNOWN),
    Case("iss with text appended", lambda p: p.token(iss=p.issuer + "INVALID"), Reason.ISS_UNKNOWN),
    Case("iss in another case", lambda p: p.token(iss=p.issuer.upper()), Reason.ISS_UNKNOWN),
    Case("alg none, with a signature", _with_alg("none"), Reason.ALG),
    Case("alg None, with a signature", _with_alg("None"), Reason.ALG),
    Case(
        "alg of another key of the issuer",
        lambda p: p.token(alg="ES256", key=private_key("ES256"), header={"kid": "es"}),
        Reason.ALG,
    ),
    Case("alg not pinned", header(alg="RS512"), Reason.ALG),
    Case("alg of a shared secret", _hmac_with_public_key, Reason.ALG),
    Case("alg not a string", raw_header(b'{"alg": ["RS256"], "kid": "k1"}'), Reason.ALG),
    Case("alg absent", raw_header(b'{"kid": "k1"}'), Reason.ALG),
    Case("typ of an access token", header(typ="at+jwt"), Reason.TYP),
    Case("typ of a security event", header(typ="secevent+jwt"), Reason.TYP),
    Case("typ null", header(typ=None), Reason.TYP),
    Case("typ empty", header(typ=""), Reason.TYP),
    Case("crit", header(crit=["exp"]), Reason.CRIT),
    Case("crit empty", header(crit=[]), Reason.CRIT),
    Case("strict and typ JWT", header(typ="JWT"), Reason.TYP, "strict = true"),
    Case(
        "strict and typ application/jwt", header(typ="application/jwt"), Reason.TYP, "strict = true"
    ),
    Case("typ application/at+jwt", header(typ="application/at+jwt"), Reason.TYP),
    Case("strict and typ absent", header(typ=ABSENT), Reason.TYP, "strict = true"),
    Case("kid a number", header(kid=1), Reason.KID),
    Case("kid null", header(kid=None), Reason.KID),
    Case("kid that the issuer does not publish", header(kid="other"), Reason.KEY_UNKNOWN),
    Case("key brought by the token", _jwk_in_header, Reason.SIGNATURE),
    Case(
        "another key under a known kid",
        lambda p: p.token(key=private_key("RS256", 9)),
        Reason.SIGNATURE,
    ),
    Case("another payload", _other_payload, Reason.SIGNATURE),
    Case(
        "no kid and a key that nobody published",
        lambda p: p.token(header={"kid": ABSENT}, key=private_key("RS256", 9)),
        Reason.KEY_UNKNOWN,
    ),
    Case(
        "kid of a key for another alg",
        lambda p: p.token(header={"kid": "k1"}, key=private_key("ES256"), alg="ES256"),
        Reason.KEY_MISMATCH,
        'algorithms = ["RS256", "ES256"]',
    ),
    Case("aud absent", claims(aud=ABSENT), Reason.AUD),
    Case("aud null", claims(aud=None), Reason.AUD),
    Case("aud a number", claims(aud=1), Reason.AUD),
    Case("aud with a number", lambda p: p.token(aud=[p.client_id, 1]), Reason.AUD),
    Case("aud another client", claims(aud="shop"), Reason.AUD_UNKNOWN),
    Case("aud an empty array", claims(aud=[]), Reason.AUD_UNKNOWN),
    Case(
        "aud holds ours only as a part",
        lambda p: p.token(aud=p.client_id + "-2"),
        Reason.AUD_UNKNOWN,
    ),
    Case("iat absent", claims(iat=ABSENT), Reason.IAT),
    Case("iat null", claims(iat=None), Reason.IAT),
    Case("iat a string", claims(iat="1795283041"), Reason.IAT),
    Case("iat true", claims(iat=True), Reason.IAT),
    Case("iat in the future", iat(120), Reason.IAT_FUTURE),
    Case("iat huge", claims(iat=10**400), Reason.IAT_FUTURE),
    Case("iat 1e308", claims(iat=1e308), Reason.IAT_FUTURE),
    Case(
        "iat old although exp is ahead",
        lambda p: p.token(iat=ago(400), exp=ago(-900)),
        Reason.IAT_OLD,
    ),
    Case("iat negative", claims(iat=-(10**400)), Reason.IAT_OLD),
    Case("exp past", lambda p: p.token(iat=ago(200), exp=ago(90)), Reason.EXP_PAST),
    Case("exp a string", claims(exp="soon"), Reason.EXP),
    Case("exp null", claims(exp=None), Reason.EXP),
    Case("exp false", claims(exp=False), Reason.EXP),
    Case(
        "exp absent though demanded", claims(exp=ABSENT), Reason.EXP_MISSING, "require_exp = true"
    ),
    Case("strict and exp absent", claims(exp=ABSENT), Reason.EXP_MISSING, "strict = true"),
    Case("nbf ahead", lambda p: p.token(nbf=ago(-120)), Reason.NBF_FUTURE),
    Case("nbf a string", claims(nbf="0"), Reason.NBF),
    Case("nbf null", claims(nbf=None), Reason.NBF),
    Case("jti absent", claims(jti=ABSENT), Reason.JTI),
    Case("jti empty", claims(jti=""), Reason.JTI),
    Case("jti a number", claims(jti=1), Reason.JTI),
    Case("jti too long", claims(jti=LONG), Reason.JTI),
    Case("events absent", claims(events=ABSENT), Reason.EVENTS),
    Case("events null", claims(events=None), Reason.EVENTS),
    Case("events an array", claims(events=[EVENT]), Reason.EVENTS),
    Case("events a string", claims(events=EVENT), Reason.EVENTS),
    Case("events empty", claims(events={}), Reason.EVENTS_MEMBER),
    Case("events of another kind", claims(events={EVENT + "/": {}}), Reason.EVENTS_MEMBER),
    Case("the event null", claims(events={EVENT: None}), Reason.EVENTS_MEMBER),
    Case("the event an array", claims(events={EVENT: []}), Reason.EVENTS_MEMBER),
    Case("the event true", claims(events={EVENT: True}), Reason.EVENTS_MEMBER),
    Case("the event a string", claims(events={EVENT: "{}"}), Reason.EVENTS_MEMBER),
    Case("nonce", claims(nonce="n"), Reason.NONCE),
    Case("nonce null", claims(nonce=None), Reason.NONCE),
    Case("nonce empty", claims(nonce=""), Reason.NONCE),
    Case("sub null", claims(sub=None), Reason.SUB),
    Case("sub empty", claims(sub=""), Reason.SUB),
    Case("sub a number", claims(sub=7), Reason.SUB),
    Case("sub too long", claims(sub=LONG), Reason.SUB),
    Case("sid null", claims(sid=None), Reason.SID),
    Case("sid empty", claims(sid=""), Reason.SID),
    Case("sid an object", claims(sid={}), Reason.SID),
    Case("sid too long", claims(sid=LONG), Reason.SID),
    Case("neither sub nor sid", claims(sub=ABSENT, sid=ABSENT), Reason.SUBJECT_MISSING),
)

CASES = (*ACCEPTED, *REFUSED)

ORDER: tuple[tuple[Reason, Build], ...] = (
    (Reason.ISS_UNKNOWN, lambda p: p.token(header={"alg": "none"}, iss="https://x.example")),
    (Reason.ALG, lambda p: p.token(header={"alg": "none", "typ": "at+jwt"})),
    (Reason.TYP, lambda p: p.token(header={"typ": "at+jwt", "crit": []}, aud="x")),
    (Reason.SIGNATURE, lambda p: p.token(key=private_key("RS256", 9), aud="x")),
    (Reason.AUD_UNKNOWN, claims(aud="x", iat=0)),
    (Reason.IAT_OLD, claims(iat=0, exp=0)),
    (Reason.EXP_PAST, lambda p: p.token(exp=0, nbf=ago(-999))),
    (Reason.NBF_FUTURE, lambda p: p.token(nbf=ago(-999), jti="")),
    (Reason.JTI, claims(jti="", events={})),
    (Reason.EVENTS_MEMBER, claims(events={}, nonce="n")),
    (Reason.NONCE, claims(nonce="n", sub="", sid="")),
    (Reason.SUB, claims(sub="", sid="")),
)
"""Tokens with two faults: the earlier rule decides."""
