"""The two families of errors, and the table that maps them to HTTP.

    TokenRefused(Reason)            the sender's: the request or token can never be valid   400
    DependencyUnavailable(Outage)   ours: not written durably, or no key available now      503

Back-Channel Logout 1.0, section 2.8, also answers 400 when "the logout failed". Several providers
treat 400 as final and retry 503, so whatever may succeed later is 503 here (see
docs/decisions/0002-503-when-our-side-fails.md).

A `Reason` or `Outage` is stable: it is part of the response, a log field, a metric label and a test
id. The sentences are fixed; nothing of a request or a token is echoed.
"""

import asyncio
from enum import StrEnum


class Reason(StrEnum):
    """Why a request or a token was refused, in the order of the checks."""

    CONTENT_TYPE = "content_type"
    BODY_TOO_LARGE = "body_too_large"
    FORM = "form"
    LOGOUT_TOKEN_MISSING = "logout_token_missing"
    LOGOUT_TOKEN_REPEATED = "logout_token_repeated"

    SHAPE = "shape"
    ENCRYPTED = "encrypted"
    ENCRYPTION_HEADER = "encryption_header"
    ENCRYPTION_ALG = "encryption_alg"
    DECRYPTION = "decryption"
    HEADER_JSON = "header_json"
    PAYLOAD_JSON = "payload_json"

    ISS = "iss"
    ISS_UNKNOWN = "iss_unknown"
    ENCRYPTION_REQUIRED = "encryption_required"

    ALG = "alg"
    AUD_NOT_ALONE = "aud_not_alone"
    TYP = "typ"
    CRIT = "crit"

    KID = "kid"
    KEY_UNKNOWN = "key_unknown"
    KEY_MISMATCH = "key_mismatch"
    SIGNATURE = "signature"

    AUD = "aud"
    AUD_UNKNOWN = "aud_unknown"
    IAT = "iat"
    IAT_FUTURE = "iat_future"
    IAT_OLD = "iat_old"
    EXP = "exp"
    EXP_MISSING = "exp_missing"
    EXP_PAST = "exp_past"
    NBF = "nbf"
    NBF_FUTURE = "nbf_future"
    JTI = "jti"
    EVENTS = "events"
    EVENTS_MEMBER = "events_member"
    NONCE = "nonce"
    SUB = "sub"
    SID = "sid"
    SUBJECT_MISSING = "subject_missing"


SENTENCES: dict[Reason, str] = {
    Reason.CONTENT_TYPE: "the body must be application/x-www-form-urlencoded",
    Reason.BODY_TOO_LARGE: "the body is larger than 16 KiB",
    Reason.FORM: "the body is not a form that can be read",
    Reason.LOGOUT_TOKEN_MISSING: "the form has no logout_token",
    Reason.LOGOUT_TOKEN_REPEATED: "the form has more than one logout_token",
    Reason.SHAPE: "the token is not three base64url segments (five where it is encrypted), or one"
    " of them is empty: without a signature (alg none) it is never taken",
    Reason.ENCRYPTED: "the token is encrypted, and no decryption key is configured",
    Reason.ENCRYPTION_HEADER: "the encryption's header is malformed, has zip or crit, or its cty"
    " is not JWT",
    Reason.ENCRYPTION_ALG: "alg or enc of the encryption is not one that this receiver takes",
    Reason.DECRYPTION: "no decryption key that is configured for the issuer opens the token",
    Reason.HEADER_JSON: "the token's header is not a well-formed JSON object",
    Reason.PAYLOAD_JSON: "the token's payload is not a well-formed JSON object",
    Reason.ISS: "iss is absent or not a string",
    Reason.ISS_UNKNOWN: "iss is not a configured issuer",
    Reason.ENCRYPTION_REQUIRED: "the token is not encrypted, and this issuer's must be",
    Reason.ALG: "alg is not one of the algorithms configured for this issuer or client",
    Reason.AUD_NOT_ALONE: "a token signed with a client's secret must be for that client alone",
    Reason.TYP: "typ is not that of a logout token",
    Reason.CRIT: "crit is present, and no critical extension is supported",
    Reason.KID: "kid is not a string",
    Reason.KEY_UNKNOWN: "the issuer publishes no key for this token",
    Reason.KEY_MISMATCH: "the issuer's key of this kid does not fit alg",
    Reason.SIGNATURE: "the signature does not verify",
    Reason.AUD: "aud is absent, or neither a string nor an array of strings",
    Reason.AUD_UNKNOWN: "aud holds no configured client id of this issuer",
    Reason.IAT: "iat is absent or not a number",
    Reason.IAT_FUTURE: "iat is in the future; compare the clocks",
    Reason.IAT_OLD: "iat is older than this receiver accepts; compare the clocks",
    Reason.EXP: "exp is not a number",
    Reason.EXP_MISSING: "exp is absent, and this receiver demands it",
    Reason.EXP_PAST: "the token has expired",
    Reason.NBF: "nbf is not a number",
    Reason.NBF_FUTURE: "the token is not valid yet",
    Reason.JTI: "jti is absent, or not a string of 1 to 255 characters",
    Reason.EVENTS: "events is absent or not an object",
    Reason.EVENTS_MEMBER: "events has no object member for back-channel logout",
    Reason.NONCE: "nonce is present; this may be an ID token",
    Reason.SUB: "sub is not a string of 1 to 255 characters",
    Reason.SID: "sid is not a string of 1 to 255 characters",
    Reason.SUBJECT_MISSING: "the token names neither sub nor sid",
}


class Outage(StrEnum):
    """Why the receiver cannot process a token now."""

    KEYS_UNAVAILABLE = "keys_unavailable"
    REDIS_UNAVAILABLE = "redis_unavailable"
    OVERLOADED = "overloaded"
    QUOTA = "quota"
    DEADLINE = "deadline"
    INTERNAL = "internal"


OUTAGE_SENTENCES: dict[Outage, str] = {
    Outage.KEYS_UNAVAILABLE: "the key for this token can not be had from the issuer now",
    Outage.REDIS_UNAVAILABLE: "the logout could not be written durably now",
    Outage.OVERLOADED: "the receiver has too much work at once; send it again later",
    Outage.QUOTA: "too many logouts for this relying app in a minute; send it again later",
    Outage.DEADLINE: "the request took too long",
    Outage.INTERNAL: "an unexpected fault of the receiver; its log says more",
}


class TokenRefused(Exception):
    """The request or the token can never be valid."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class DependencyUnavailable(Exception):
    """Nothing is wrong with the token; the same token may succeed later."""

    def __init__(self, outage: Outage) -> None:
        super().__init__(outage.value)
        self.outage = outage


# Redis restarts and key fetches take seconds. Providers that honour the header wait longer anyway.
RETRY_AFTER_SECONDS = 5


def to_http(
    error: TokenRefused | DependencyUnavailable,
) -> tuple[int, dict[str, str], dict[str, str]]:
    """Status, JSON body and headers of the answer to a fault."""
    if isinstance(error, TokenRefused):
        description = f"{error.reason}: {SENTENCES[error.reason]}"
        return 400, {"error": "invalid_request", "error_description": description}, {}
    description = f"{error.outage}: {OUTAGE_SENTENCES[error.outage]}"
    return (
        503,
        {"error": "temporarily_unavailable", "error_description": description},
        {"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


class LibraryPanic(Exception):
    """A library written in Rust has panicked on one input; the process goes on."""


def fault_of(error: BaseException) -> Exception:
    """Turns an error of one request or key into an `Exception`.

    A panic in Rust is raised as a `BaseException`. Exceptions that end a task or the process are
    raised again.
    """
    if isinstance(error, Exception):
        return error
    if isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt | SystemExit):
        raise error
    fault = LibraryPanic(type(error).__name__)
    fault.__cause__ = error
    return fault
