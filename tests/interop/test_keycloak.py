"""Keycloak: a session that an administrator ends there ends in the relying app, and no other.

Keycloak notifies the clients one after the other while the administrator or the user waits, for 5 s
each, and never retries. A login with offline access leaves only an offline session; Keycloak sends
a logout token for it only when an administrator revokes that very session.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backchannel_logout import EventKind, SessionGuard
from tests.interop.interop_fixture import InteropSetup
from tests.interop.keycloak import Keycloak, Realm
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.interop

OFFLINE = {"scope": "openid offline_access"}


@pytest.fixture
def setup(
    keycloak: Keycloak, shared_redis: RedisServer, tmp_path: Path
) -> Iterator[InteropSetup[Realm]]:
    with InteropSetup(keycloak.realm("alice", "bob", "carol"), shared_redis, tmp_path) as parts:
        yield parts


def next_second() -> None:
    """Wait for the next second: a login in the second of a logout counts as earlier."""
    time.sleep(1.01 - time.time() % 1)


def test_signing_out_one_session_ends_only_that_one(setup: InteropSetup[Realm]) -> None:
    """The administrator's "Sign out": the user's other session survives, as does another user's."""
    [shop] = setup.open("shop")
    laptop, phone, bob = setup.visitor("alice"), setup.visitor("alice"), setup.visitor("bob")
    ended, lives = laptop.sign_in(shop), phone.sign_in(shop)
    bob.sign_in(shop)
    assert {session["id"] for session in setup.op.sessions("alice")} == {ended["sid"], lives["sid"]}

    setup.op.sign_out_session(ended["sid"])

    assert laptop.is_signed_out(shop)
    assert phone.is_signed_in(shop)
    assert bob.is_signed_in(shop)
    [event] = setup.events(shop)
    assert event.kind is EventKind.SESSION
    assert (event.iss, event.sid, event.sub) == (setup.op.issuer, ended["sid"], ended["sub"])
    assert event.revoke_offline_access is False
    assert event.cutoff >= ended["login_at"]


def test_signing_out_a_user_ends_all_three_sessions(setup: InteropSetup[Realm]) -> None:
    """One token per session; another user's session survives."""
    [shop] = setup.open("shop")
    devices = [setup.visitor("alice") for _ in range(3)]
    sids = {device.sign_in(shop)["sid"] for device in devices}
    bob = setup.visitor("bob")
    bob.sign_in(shop)

    setup.op.sign_out_user("alice")

    assert all(device.is_signed_out(shop) for device in devices)
    assert bob.is_signed_in(shop)
    assert {event.sid for event in setup.events(shop)} == sids
    assert len(sids) == 3


def test_the_users_own_logout_ends_the_session_in_every_app(setup: InteropSetup[Realm]) -> None:
    """All clients of a session share one sid; another browser stays signed in."""
    shop, forum = setup.open("shop", "forum")
    laptop, phone = setup.visitor("alice"), setup.visitor("alice")
    in_shop, in_forum = laptop.sign_in(shop), laptop.sign_in_without_password(forum)
    phone.sign_in(shop)
    assert in_shop["sid"] == in_forum["sid"]

    laptop.browser.open(shop.url + "/sign-out")

    assert laptop.is_signed_out(shop)
    assert laptop.is_signed_out(forum)
    assert phone.is_signed_in(shop)


def test_without_session_required_one_sign_out_ends_all_of_the_user(
    setup: InteropSetup[Realm],
) -> None:
    """Its logout tokens then name only the user, although ID tokens name the session."""
    [shop] = setup.open("shop", with_sid=False)
    laptop, phone, bob = setup.visitor("alice"), setup.visitor("alice"), setup.visitor("bob")
    ended = laptop.sign_in(shop)
    phone.sign_in(shop)
    bob.sign_in(shop)
    assert ended["sid"] is not None

    setup.op.sign_out_session(ended["sid"])

    assert laptop.is_signed_out(shop)
    assert phone.is_signed_out(shop)
    assert bob.is_signed_in(shop)
    [event] = setup.events(shop)
    assert (event.kind, event.sid, event.sub) == (EventKind.USER, None, ended["sub"])


def test_the_end_of_offline_access_reaches_the_event(setup: InteropSetup[Realm]) -> None:
    """The member revoke_offline_access of the token's events, a boolean, is passed on."""
    [shop] = setup.open("shop", revoke_offline_access=True)
    shop.ask = OFFLINE
    alice, bob = setup.visitor("alice"), setup.visitor("bob")
    session = alice.sign_in(shop)
    bob.sign_in(shop)

    setup.op.sign_out_session(session["sid"], offline=True)

    assert alice.is_signed_out(shop)
    assert bob.is_signed_in(shop)
    [event] = setup.events(shop)
    assert event.revoke_offline_access is True


@pytest.mark.parametrize("with_sid", [True, False], ids=["sid", "sub_only"])
def test_pairwise_subjects_are_the_same_in_both_tokens(
    setup: InteropSetup[Realm], with_sid: bool
) -> None:
    """Each app has its own sub for the user, and its token has that one."""
    shop, forum = setup.open("shop", "forum", pairwise=True, with_sid=with_sid)
    alice, bob = setup.visitor("alice"), setup.visitor("bob")
    in_shop, in_forum = alice.sign_in(shop), alice.sign_in_without_password(forum)
    bob.sign_in(shop)
    assert len({in_shop["sub"], in_forum["sub"], setup.op.user_id("alice")}) == 3

    setup.op.sign_out_user("alice")

    assert alice.is_signed_out(shop)
    assert alice.is_signed_out(forum)
    assert bob.is_signed_in(shop)
    assert [event.sub for event in setup.events(shop)] == [in_shop["sub"]]
    assert [event.sub for event in setup.events(forum)] == [in_forum["sub"]]


def test_an_offline_refresh_after_the_logout_does_not_bring_the_session_back(
    setup: InteropSetup[Realm],
) -> None:
    """The offline token outlives the session; the iat of its ID tokens is not the login's."""
    forum, shop = setup.open("forum", "shop")
    shop.ask = OFFLINE
    alice, bob = setup.visitor("alice"), setup.visitor("bob")
    alice.sign_in(forum)
    session = alice.sign_in_without_password(shop)
    bob.sign_in(shop)
    login_at = session["login_at"]
    setup.op.sign_out_session(session["sid"])
    assert alice.is_signed_out(shop)

    next_second()
    [event] = setup.events(shop)
    assert alice.refresh(shop) > event.cutoff
    assert alice.remembered(shop)["login_at"] == login_at
    assert not alice.is_signed_in(shop)
    assert bob.is_signed_in(shop)


def test_the_same_browser_signs_in_again_and_lives(setup: InteropSetup[Realm]) -> None:
    """Older releases reuse the sid, 26.7 does not; the earlier session stays dead."""
    [shop] = setup.open("shop")
    alice = setup.visitor("alice")
    before = alice.sign_in(shop)
    setup.op.sign_out_session(before["sid"])
    assert alice.is_signed_out(shop)

    next_second()
    after = alice.sign_in(shop)

    with SessionGuard(setup.redis.url, app=shop.name) as guard:
        assert guard.is_revoked(before)
        assert not guard.is_revoked(after)


def test_keys_rotate_while_logouts_flow(setup: InteropSetup[Realm]) -> None:
    """Each token is signed with the current key, and the receiver finds each key."""
    [shop] = setup.open("shop")
    devices = [setup.visitor("alice") for _ in range(6)]
    sids = [device.sign_in(shop)["sid"] for device in devices]
    bob = setup.visitor("bob")
    bob.sign_in(shop)

    for number, sid in enumerate(sids):
        if number in (2, 4):
            setup.op.rotate_key()
        setup.op.sign_out_session(sid)

    assert all(device.is_signed_out(shop) for device in devices)
    assert bob.is_signed_in(shop)
    assert [event.sid for event in setup.events(shop)] == sids


def test_keycloak_sends_no_logout_token_for_these_ends(setup: InteropSetup[Realm]) -> None:
    """The documented gaps; if Keycloak ever sends a token here, update the documentation."""
    [shop] = setup.open("shop")
    alice, bob, carol = (setup.visitor(login) for login in ("alice", "bob", "carol"))
    bob.sign_in(shop)
    carol.sign_in(shop)
    shop.ask = OFFLINE
    alice.sign_in(shop)

    setup.op.sign_out_user("alice")  # alice has only an offline session
    setup.op.admin("DELETE", f"/users/{setup.op.user_id('bob')}")
    setup.op.admin("POST", "/logout-all")

    assert setup.op.sessions("carol") == []
    assert setup.events(shop) == []
    assert all(visitor.is_signed_in(shop) for visitor in (alice, bob, carol))
