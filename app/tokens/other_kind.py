"""Guesses the kind of a token that is not a logout token, for the person who pasted it.

Reads unverified members only, so it decides nothing. Providers mark the kind in the header (RFC
9068, RFC 8417), in a claim of their own (Keycloak's ``typ``), or not at all.
"""

from collections.abc import Mapping
from typing import Any

from app.tokens.logout_token import EVENT

ID_TOKEN = "an ID token"
ACCESS_TOKEN = "an access token"
REFRESH_TOKEN = "a refresh token"
SECURITY_EVENT = "a security event token of another kind, such as one of Shared Signals"
UNKNOWN = "a token of another kind, without events"

_HEADER_TYPES = {"at+jwt": ACCESS_TOKEN, "secevent+jwt": SECURITY_EVENT}
_KEYCLOAK_TYPES = {
    "ID": ID_TOKEN,
    "Bearer": ACCESS_TOKEN,
    "Refresh": REFRESH_TOKEN,
    "Offline": REFRESH_TOKEN,
}
_ONLY_ID_TOKENS = ("nonce", "at_hash", "c_hash", "s_hash", "auth_time", "amr")
_ONLY_ACCESS_TOKENS = ("scope", "scp", "client_id", "cid", "permissions")


def other_kind(
    unverified_header: Mapping[str, Any], unverified_claims: Mapping[str, Any]
) -> str | None:
    """The kind, as a noun phrase; None if it may be meant as a logout token."""
    events = unverified_claims.get("events")
    if "events" in unverified_claims and (not isinstance(events, dict) or not events):
        return None  # the rule about events explains it
    if isinstance(events, dict) and EVENT in events:
        return None
    typ = unverified_header.get("typ")
    name = typ.lower().removeprefix("application/") if isinstance(typ, str) else ""
    if name in _HEADER_TYPES:
        return _HEADER_TYPES[name]
    if events:
        return SECURITY_EVENT
    own = unverified_claims.get("typ")
    if isinstance(own, str) and own in _KEYCLOAK_TYPES:
        return _KEYCLOAK_TYPES[own]
    if not unverified_claims.keys().isdisjoint(_ONLY_ACCESS_TOKENS):
        return ACCESS_TOKEN
    if not unverified_claims.keys().isdisjoint(_ONLY_ID_TOKENS):
        return ID_TOKEN
    return UNKNOWN
