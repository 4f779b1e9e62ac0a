"""The rule that each case of `tests.tokens.cases` tests, and whether it is mandatory.

Sections without a name are from OpenID Connect Back-Channel Logout 1.0.
"""

from dataclasses import dataclass

from app.errors import Reason
from tests.tokens.cases import Case


@dataclass(frozen=True)
class Requirement:
    """``binding``: the specification demands it. Otherwise it is advice: where the specification
    leaves the choice, it is safer, or a real provider needs it."""

    section: str
    text: str
    binding: bool = True


def must(section: str, text: str) -> Requirement:
    return Requirement(section, text)


def advice(section: str, text: str) -> Requirement:
    return Requirement(section, text, binding=False)


_SIGNATURE = must("2.6 step 2", "the signature is validated as that of an ID token")
_ISS = must("2.6 step 4, Core 3.1.3.7 step 2", "iss is exactly the issuer's")
_AUD = must("2.6 step 4, Core 3.1.3.7 step 3", "aud contains the client id")
_ALG = must("2.6 step 3", "alg is the registered one, RS256 by default, and never none")
_JSON = must("RFC 7519 7.2", "header and claims are JSON objects in UTF-8")
_EVENTS = must("2.6 step 6", "events is an object with the member of back-channel logout")
_MEMBER = advice("2.4", "the value of the event's member is an object")
_NONCE = must("2.6 step 7", "there is no nonce")
_SID_SUB = advice("2.4", "sub and sid are strings, at least one character and at most 255")
_PARSERS = advice("RFC 8725 2.4", "JSON that parsers read differently is refused")
_EXP = must("2.6 step 4, Core 3.1.3.7 step 9", "the time is before exp")
_NBF = must("RFC 7519 4.1.5", "the time is not before nbf")
_IAT = must("2.6 step 4, Core 2", "iat is present, and a number")
_RECENT = advice("2.6 step 4, Core 3.1.3.7 step 10", "iat is recent, and not in the future")
_KNOWN = must("2.4", "a token with these claims is valid, and members not understood are ignored")
_LEEWAY = advice("RFC 7519 4.1.4", "a small leeway allows for different clocks")
_PROVIDERS = advice("none", "some providers send it")

BY_REASON = {
    Reason.SHAPE: must("RFC 7515 7.1", "a token is three segments in base64url"),
    Reason.ENCRYPTED: must("2.6 step 1", "a token that cannot be decrypted is refused"),
    Reason.HEADER_JSON: _JSON,
    Reason.PAYLOAD_JSON: _JSON,
    Reason.ISS: _ISS,
    Reason.ISS_UNKNOWN: _ISS,
    Reason.ALG: _ALG,
    Reason.TYP: advice("4, RFC 8725 3.11", "a token of another type is not a logout token"),
    Reason.CRIT: must("RFC 7515 4.1.11", "a crit that is empty or not understood is refused"),
    Reason.KID: advice("RFC 7515 4.1.4", "kid is a string"),
    Reason.KEY_UNKNOWN: _SIGNATURE,
    Reason.KEY_MISMATCH: _SIGNATURE,
    Reason.SIGNATURE: _SIGNATURE,
    Reason.AUD: _AUD,
    Reason.AUD_UNKNOWN: _AUD,
    Reason.IAT: _IAT,
    Reason.IAT_FUTURE: _RECENT,
    Reason.IAT_OLD: _RECENT,
    Reason.EXP: _EXP,
    Reason.EXP_PAST: _EXP,
    Reason.NBF: _NBF,
    Reason.NBF_FUTURE: _NBF,
    Reason.JTI: advice("2.4", "jti is present: a string, not empty and not too long to store"),
    Reason.EVENTS: _EVENTS,
    Reason.EVENTS_MEMBER: _EVENTS,
    Reason.NONCE: _NONCE,
    Reason.SUB: _SID_SUB,
    Reason.SID: _SID_SUB,
    Reason.SUBJECT_MISSING: must("2.6 step 5", "sub, sid, or both are present"),
}
"""For tokens that must be refused."""

BY_NAME = {
    "alg none, unsigned": _ALG,
    "alg none, unsigned, with kid and typ": _ALG,
    "padding": advice("RFC 7515 2", "base64url has no padding"),
    "white space": advice("RFC 7515 2", "base64url has no white space"),
    "standard base64": advice("RFC 7515 2", "base64url is not standard base64"),
    "a second spelling of the signature": advice("RFC 4648 3.5", "unused bits are zero"),
    "header in UTF-16": _PARSERS,
    "header with duplicate alg": must("RFC 7515 4", "a name occurs once, or the last one counts"),
    "payload with duplicate sid": _PARSERS,
    "duplicate member deep inside": _PARSERS,
    "NaN": _PARSERS,
    "Infinity": _PARSERS,
    "a number that overflows": _PARSERS,
    "an integer of 5000 digits": _PARSERS,
    "a lone surrogate": _PARSERS,
    "a lone surrogate as a name": _PARSERS,
    "deep nesting": _PARSERS,
    "a byte order mark": _PARSERS,
    "aud with a number": advice("RFC 7519 4.1.3", "every audience is a string"),
    "iat huge": _RECENT,
    "the event null": _MEMBER,
    "the event an array": _MEMBER,
    "the event true": _MEMBER,
    "the event a string": _MEMBER,
    # Accepted:
    "as the specification's example": _KNOWN,
    "as the OpenID Foundation's suite sends it": _KNOWN,
    "typ absent": must("2.4", "typ is recommended, and may be absent"),
    "typ JWT": advice("none", "Auth0, Hydra and others send typ JWT"),
    "typ in another case": advice("RFC 7515 4.1.9", "media types are case-insensitive"),
    "typ with application/": advice("RFC 7515 4.1.9", "the prefix application/ is optional"),
    "typ application/jwt": advice("RFC 7515 4.1.9", "the prefix application/ is optional"),
    "typ application/JWT": advice("RFC 7515 4.1.9", "the prefix application/ is optional"),
    "kid absent": advice("Core 10.1", "one key fits the alg, so that kid may be absent"),
    "aud an array": must("RFC 7519 4.1.3", "aud is a string, or an array of strings"),
    "aud an array with foreign audiences": advice("none", "LemonLDAP::NG adds audiences"),
    "exp absent": advice("none", "Hydra, LemonLDAP::NG and others send no exp"),
    "exp just past, within the leeway": _LEEWAY,
    "nbf ahead, within the leeway": _LEEWAY,
    "iat ahead, within the leeway": _LEEWAY,
    "iat old, within max_token_age": _PROVIDERS,
    "iat with a fraction": must("RFC 7519 2", "a time may have a fraction"),
    "jti of the greatest length": _PROVIDERS,
    "events with other members of any type": advice("none", "Keycloak adds a boolean member"),
    "the event's own object has members": advice("2.4", "the object should be empty, but need not"),
}
"""For tokens that must be accepted, and where the reason alone does not determine the rule."""

CERTIFICATION = "oidcc-client-test-rp-backchannel-rpinitlogout"
PLAN = {
    "as the OpenID Foundation's suite sends it": CERTIFICATION,
    "alg none, unsigned": CERTIFICATION + "-alg-none",
    "events absent": CERTIFICATION + "-no-event",
    "nonce": CERTIFICATION + "-with-nonce",
    "alg of another key of the issuer": CERTIFICATION + "-wrong-alg",
    "aud holds ours only as a part": CERTIFICATION + "-wrong-aud",
    "events of another kind": CERTIFICATION + "-wrong-event",
    "iss with text appended": CERTIFICATION + "-wrong-iss",
}
"""The modules of the OpenID Foundation's plan oidcc-client-back-channel-logout-rp-basic."""


def requirement(case: Case) -> Requirement:
    """The rule that a case tests."""
    if case.name in BY_NAME:
        return BY_NAME[case.name]
    if case.expected is None:
        return _KNOWN
    return BY_REASON.get(case.expected, advice("2.6", "an invalid token is refused"))
