"""better-auth: ending a session from another browser ends it in the relying app.

It signs with EdDSA and gives every client of a session the same ``sid``. It notifies the clients
that hold a token of the session, while the person waits, without retries.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backchannel_logout import EventKind, SessionGuard
from tests.interop.better_auth_process import BetterAuth, missing
from tests.interop.interop_fixture import InteropSetup
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.interop


@pytest.fixture
def setup(shared_redis: RedisServer, tmp_path: Path) -> Iterator[InteropSetup[BetterAuth]]:
    if reason := missing():
        pytest.skip(reason)
    with BetterAuth(tmp_path) as provider, InteropSetup(provider, shared_redis, tmp_path) as parts:
        yield parts


def next_second() -> None:
    """Wait for the next second: a login in the second of a logout counts as earlier."""
    time.sleep(1.01 - time.time() % 1)


def test_only_the_session_revoked_from_another_browser_ends(
    setup: InteropSetup[BetterAuth],
) -> None:
    """The browser that requests it stays signed in, and so does another user's."""
    [shop] = setup.open("shop", alg="EdDSA", accepts=("EdDSA",))
    laptop, phone, bob = setup.visitor("alice"), setup.visitor("alice"), setup.visitor("bob")
    ended, lives = laptop.sign_in(shop), phone.sign_in(shop)
    bob.sign_in(shop)
    assert ended["sid"] != lives["sid"]

    lost = setup.op.session_of(laptop.browser)
    assert setup.op.call(phone.browser, "revoke-session", token=lost).is_success

    assert laptop.is_signed_out(shop)
    assert phone.is_signed_in(shop)
    assert bob.is_signed_in(shop)
    [event] = setup.events(shop)
    assert event.kind is EventKind.SESSION
    assert (event.iss, event.sid, event.sub) == (setup.op.issuer, ended["sid"], ended["sub"])


def test_revoking_the_other_sessions_keeps_the_current_one(setup: InteropSetup[BetterAuth]) -> None:
    """Another user's session survives."""
    [shop] = setup.open("shop", alg="EdDSA", accepts=("EdDSA",))
    laptop, tablet, phone = (setup.visitor("alice") for _ in range(3))
    bob = setup.visitor("bob")
    ended = {visitor.sign_in(shop)["sid"] for visitor in (laptop, tablet)}
    phone.sign_in(shop)
    bob.sign_in(shop)

    assert setup.op.call(phone.browser, "revoke-other-sessions").is_success

    assert laptop.is_signed_out(shop)
    assert tablet.is_signed_out(shop)
    assert phone.is_signed_in(shop)
    assert bob.is_signed_in(shop)
    assert {event.sid for event in setup.events(shop)} == ended


def test_all_sessions_revoked_end_in_every_app(setup: InteropSetup[BetterAuth]) -> None:
    """The clients of one session share a sid; another user's session survives."""
    shop, forum = setup.open("shop", "forum", alg="EdDSA", accepts=("EdDSA",))
    laptop, phone, bob = setup.visitor("alice"), setup.visitor("alice"), setup.visitor("bob")
    in_shop, in_forum = laptop.sign_in(shop), laptop.sign_in_without_password(forum)
    phone.sign_in(shop)
    bob.sign_in(shop)
    assert in_shop["sid"] == in_forum["sid"]

    assert setup.op.call(phone.browser, "revoke-sessions").is_success

    assert laptop.is_signed_out(shop)
    assert laptop.is_signed_out(forum)
    assert phone.is_signed_out(shop)
    assert bob.is_signed_in(shop)


def test_neither_a_refresh_nor_another_login_brings_the_session_back(
    setup: InteropSetup[BetterAuth],
) -> None:
    """The refresh token outlives the session; the same browser's next login survives."""
    [shop] = setup.open("shop", alg="EdDSA", accepts=("EdDSA",))
    laptop, phone = setup.visitor("alice"), setup.visitor("alice")
    before = laptop.sign_in(shop)
    phone.sign_in(shop)
    login_at = before["login_at"]
    assert setup.op.call(laptop.browser, "sign-out").is_success
    assert laptop.is_signed_out(shop)

    next_second()
    [event] = setup.events(shop)
    assert laptop.refresh(shop) > event.cutoff
    assert laptop.remembered(shop)["login_at"] == login_at
    assert not laptop.is_signed_in(shop)

    after = laptop.sign_in(shop)
    assert phone.is_signed_in(shop)
    with SessionGuard(setup.redis.url, app=shop.name) as guard:
        assert guard.is_revoked(before)
        assert not guard.is_revoked(after)
