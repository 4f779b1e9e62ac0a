"""The users' API accepts a browser's access token, and no other token of the issuer."""

import secrets
from typing import Any

import pytest

from tests.account.account_fixture import AUDIENCE, SCOPE, AccountClient, now
from tests.support.providers.provider import ABSENT, EVENT, private_key


def test_an_access_token_of_ours_lists_and_ends(alice: AccountClient) -> None:
    own, other = alice.tenant.add(alice.user), alice.tenant.add(alice.user)
    token = alice.access_token(own)

    listed = alice.ask("GET", "", None, token).json()
    assert [(one["id"], one["current"]) for one in listed] == [(own, True), (other, False)]
    assert alice.ask("DELETE", f"/{other}", None, token).json()["id"] == other


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://api.example"}, {"aud": "shop-web"}, {"aud": ABSENT},
        {"scope": "openid"}, {"scope": ABSENT}, {"scope": f"{SCOPE}x"},
        {"exp": 1}, {"exp": ABSENT}, {"exp": True}, {"iat": 4_000_000_000}, {"iat": ABSENT},
        {"nbf": 4_000_000_000}, {"sub": ABSENT}, {"sid": ABSENT}, {"sid": ""},
        {"nonce": "n"}, {"nonce": None}, {"events": {EVENT: {}}}, {"at_hash": "x"},
        {"typ": "ID"}, {"typ": "Refresh"}, {"typ": "Logout"}, {"iss": "https://elsewhere.example"},
        {"header": {"typ": "logout+jwt"}}, {"header": {"typ": "id+jwt"}},
        {"header": {"typ": "at+jwt", "kid": "other"}},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_any_other_token_is_refused(alice: AccountClient, changes: dict[str, Any]) -> None:
    own = alice.tenant.add(alice.user)
    answer = alice.ask("GET", "", None, alice.access_token(own, **changes))
    # A key that nobody knows may be a new one: then it is 503 until it has been looked for.
    assert answer.status_code in ((401, 503) if "header" in changes else (401,))


def test_a_wrong_signature_is_refused(alice: AccountClient) -> None:
    token = alice.keys.token(
        header={"typ": "at+jwt"}, key=private_key("RS256", 7), aud=AUDIENCE, scope=SCOPE,
        sid="s", sub=alice.user, events=ABSENT,
    )  # fmt: skip
    assert alice.ask("GET", "", None, token).status_code == 401


def test_an_id_token_and_a_logout_token_are_refused(alice: AccountClient) -> None:
    own = alice.tenant.add(alice.user)
    id_token = alice.keys.token(header={"typ": "JWT"}, sid=own, sub=alice.user, events=ABSENT)
    logout_token = alice.keys.token(sid=own, sub=alice.user)
    for token in (id_token, logout_token):
        assert alice.ask("GET", "", None, token).status_code == 401


def test_a_token_that_was_refreshed_after_the_logout_opens_nothing(alice: AccountClient) -> None:
    user = f"auth0|{secrets.token_hex(4)}"
    own, other = alice.tenant.add(user), alice.tenant.add(user)
    alice.receiver.post(alice.keys.token(sid=own, sub=user))

    token = alice.access_token(own, sub=user, iat=now() + 30)

    assert alice.ask("DELETE", f"/{other}", None, token).status_code == 401
    assert other in alice.tenant.alive()


def test_a_token_outlives_its_session_and_opens_nothing(alice: AccountClient) -> None:
    """No logout token came: the provider itself says that there is no such session."""
    other = alice.tenant.add(alice.user)
    token = alice.access_token("gone-at-the-provider")
    assert alice.ask("GET", "", None, token).status_code == 401
    assert alice.ask("DELETE", f"/{other}", None, token).status_code == 401
    assert alice.ask("DELETE", "", None, token).status_code == 401
    assert other in alice.tenant.alive()
