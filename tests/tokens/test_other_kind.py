"""The kind of a token that was pasted in place of a logout token."""

from typing import Any

import pytest

from app.tokens.logout_token import EVENT
from app.tokens.other_kind import (
    ACCESS_TOKEN,
    ID_TOKEN,
    REFRESH_TOKEN,
    SECURITY_EVENT,
    UNKNOWN,
    other_kind,
)

USER = {"iss": "https://op.example", "sub": "alice", "aud": "shop-web", "iat": 1, "exp": 2}
CAEP = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"

KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    "a logout token": ({}, USER | {"events": {EVENT: {}}}, None),
    "a logout token with a nonce": ({}, USER | {"events": {EVENT: {}}, "nonce": "n"}, None),
    "Keycloak's logout token": ({"typ": "JWT"}, {"typ": "Logout", "events": {EVENT: {}}}, None),
    "one whose events are null": ({}, USER | {"events": None}, None),
    "one whose events are empty": ({}, USER | {"events": {}}, None),
    "an ID token by its nonce": ({"typ": "JWT"}, USER | {"nonce": "n"}, ID_TOKEN),
    "an ID token by at_hash": ({}, USER | {"at_hash": "h"}, ID_TOKEN),
    "Keycloak's ID token": ({"typ": "JWT"}, USER | {"typ": "ID"}, ID_TOKEN),
    "Keycloak's access token": ({"typ": "JWT"}, USER | {"typ": "Bearer"}, ACCESS_TOKEN),
    "Keycloak's offline token": ({"typ": "JWT"}, USER | {"typ": "Offline"}, REFRESH_TOKEN),
    "an access token by its header": ({"typ": "at+jwt"}, USER, ACCESS_TOKEN),
    "one with the whole media type": ({"typ": "application/AT+JWT"}, USER, ACCESS_TOKEN),
    "an access token by its scope": ({"typ": "JWT"}, USER | {"scope": "openid"}, ACCESS_TOKEN),
    "a Shared Signals event": (
        {"typ": "secevent+jwt"}, USER | {"events": {CAEP: {}}}, SECURITY_EVENT,
    ),
    "one without a type": ({}, USER | {"events": {CAEP: {}}}, SECURITY_EVENT),
    "a type that is no text": ({"typ": 7}, USER | {"typ": ["ID"]}, UNKNOWN),
    "nothing at all": ({}, {}, UNKNOWN),
}  # fmt: skip


@pytest.mark.parametrize(("header", "claims", "kind"), KINDS.values(), ids=KINDS)
def test_the_kind_is_recognized(
    header: dict[str, Any], claims: dict[str, Any], kind: str | None
) -> None:
    assert other_kind(header, claims) == kind
