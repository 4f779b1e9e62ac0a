"""What to do about a refusal: one sentence for each reason, for the people on call."""

from app.errors import Reason

_SENDER = "Check the sender: a provider's own library always sends it correctly."
_CLOCKS = (
    "Compare the provider's clock with this machine's; leeway and max_token_age set the limit."
)
_CLAIM = "The provider breaks the specification here; report it, with this reason."

MENDING: dict[Reason, str] = {
    Reason.CONTENT_TYPE: _SENDER,
    Reason.BODY_TOO_LARGE: _SENDER,
    Reason.FORM: _SENDER,
    Reason.LOGOUT_TOKEN_MISSING: "If a provider sends it: the address is right, the protocol is"
    " not. Check that this is its back-channel logout URL.",
    Reason.LOGOUT_TOKEN_REPEATED: "Look for a proxy that joins requests, or parameters.",
    Reason.SHAPE: _SENDER,
    Reason.ENCRYPTED: "Set decryption_keys for the issuer, or switch encryption off at the client.",
    Reason.ENCRYPTION_HEADER: "Choose at the provider an encryption without compression.",
    Reason.ENCRYPTION_ALG: "Choose another algorithm at the provider; docs/encryption.md has them.",
    Reason.DECRYPTION: "Give the provider the public key that `python -m app keys` prints.",
    Reason.HEADER_JSON: _CLAIM,
    Reason.PAYLOAD_JSON: _CLAIM,
    Reason.ISS: _CLAIM,
    Reason.ISS_UNKNOWN: "If the issuer is yours: make `issuer` in the settings the same character"
    " by character, with or without its last slash, or add the name to `aliases`.",
    Reason.ENCRYPTION_REQUIRED: "Switch encryption on at the provider's client, or set encryption"
    ' = "optional".',
    Reason.ALG: "Add the algorithm to `algorithms` of this issuer, if the provider is meant to use"
    " it.",
    Reason.AUD_NOT_ALONE: "Have the provider send each client a token of its own.",
    Reason.TYP: "This is another kind of token, or `strict` is on for a provider that omits typ.",
    Reason.CRIT: _CLAIM,
    Reason.KID: _CLAIM,
    Reason.KEY_UNKNOWN: "Compare the kid with the issuer's published keys, and jwks_uri with its"
    " discovery document.",
    Reason.KEY_MISMATCH: "The provider publishes another type of key under this kid; report it.",
    Reason.SIGNATURE: "Somebody else has signed it, or the provider has changed a key and kept its"
    " kid. Compare the issuer with the environment that sends.",
    Reason.AUD: _CLAIM,
    Reason.AUD_UNKNOWN: "Add the client id under [[issuers.clients]] of this issuer, with its app;"
    " or take the logout URL from the client that is not yours.",
    Reason.IAT: _CLAIM,
    Reason.IAT_FUTURE: _CLOCKS,
    Reason.IAT_OLD: _CLOCKS,
    Reason.EXP: _CLAIM,
    Reason.EXP_MISSING: "Switch `require_exp` and `strict` off for this issuer: it sends no exp.",
    Reason.EXP_PAST: _CLOCKS,
    Reason.NBF: _CLAIM,
    Reason.NBF_FUTURE: _CLOCKS,
    Reason.JTI: _CLAIM,
    Reason.EVENTS: "Compare the token's kind: an ID token or an access token has no events.",
    Reason.EVENTS_MEMBER: "It is another security event; send those elsewhere.",
    Reason.NONCE: "An ID token was sent where a logout token belongs; look at the sender.",
    Reason.SUB: _CLAIM,
    Reason.SID: _CLAIM,
    Reason.SUBJECT_MISSING: "Switch the session id on at the provider's client"
    " (backchannel logout session required).",
}
