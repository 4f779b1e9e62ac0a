"""better-auth: who ends a session from another browser ends it in the relying app.

It signs with EdDSA, gives every client of a session the same ``sid``, and tells those clients
that hold a token of the session, while the person waits, without sending again.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backchannel_logout import EventKind, SessionGuard
from tests.interop.better_auth_process import BetterAuth, missing
from tests.interop.interop_fixture import Stage
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.interop


@pytest.fixture
def stage(shared_redis: RedisServer, tmp_path: Path) -> Iterator[Stage[BetterAuth]]:
    if reason := missing():
        pytest.skip(reason)
    with BetterAuth(tmp_path) as provider, Stage(provider, shared_redis, tmp_path) as parts:
        yield parts


def next_second() -> None:
    """What begins in the second of a logout counts as begun before it: wait for the next one."""
    time.sleep(1.01 - time.time() % 1)


def test_one_session_revoked_from_another_browser_ends_alone(stage: Stage[BetterAuth]) -> None:
    """The browser that asks for it lives on, and so does another user's."""
    [shop] = stage.open("shop", alg="EdDSA", accepts=("EdDSA",))
    desk, phone, bob = stage.visitor("alice"), stage.visitor("alice"), stage.visitor("bob")
    ended, lives = desk.sign_in(shop), phone.sign_in(shop)
    bob.sign_in(shop)
    assert ended["sid"] != lives["sid"]

    lost = stage.op.session_of(desk.browser)
    assert stage.op.call(phone.browser, "revoke-session", token=lost).is_success

    assert desk.is_signed_out(shop)
    assert phone.is_signed_in(shop)
    assert bob.is_signed_in(shop)
    [event] = stage.events(shop)
    assert event.kind is EventKind.SESSION
    assert (event.iss, event.sid, event.sub) == (stage.op.issuer, ended["sid"], ended["sub"])


def test_the_other_sessions_revoked_leave_the_one_that_asks(stage: Stage[BetterAuth]) -> None:
    """Another user's session lives, too."""
    [shop] = stage.open("shop", alg="EdDSA", accepts=("EdDSA",))
    desk, tablet, phone = (stage.visitor("alice") for _ in range(3))
    bob = stage.visitor("bob")
    ended = {visitor.sign_in(shop)["sid"] for visitor in (desk, tablet)}
    phone.sign_in(shop)
    bob.sign_in(shop)

    assert stage.op.call(phone.browser, "revoke-other-sessions").is_success

    assert desk.is_signed_out(shop)
    assert tablet.is_signed_out(shop)
    assert phone.is_signed_in(shop)
    assert bob.is_signed_in(shop)
    assert {event.sid for event in stage.events(shop)} == ended


def test_all_sessions_revoked_end_in_every_app(stage: Stage[BetterAuth]) -> None:
    """The clients of one session have one sid; another user's session lives."""
    shop, forum = stage.open("shop", "forum", alg="EdDSA", accepts=("EdDSA",))
    desk, phone, bob = stage.visitor("alice"), stage.visitor("alice"), stage.visitor("bob")
    in_shop, in_forum = desk.sign_in(shop), desk.sign_in_without_password(forum)
    phone.sign_in(shop)
    bob.sign_in(shop)
    assert in_shop["sid"] == in_forum["sid"]

    assert stage.op.call(phone.browser, "revoke-sessions").is_success

    assert desk.is_signed_out(shop)
    assert desk.is_signed_out(forum)
    assert phone.is_signed_out(shop)
    assert bob.is_signed_in(shop)


def test_neither_a_refresh_nor_another_login_brings_the_session_back(
    stage: Stage[BetterAuth],
) -> None:
    """The refresh token outlives the session; the same browser's next login lives."""
    [shop] = stage.open("shop", alg="EdDSA", accepts=("EdDSA",))
    desk, phone = stage.visitor("alice"), stage.visitor("alice")
    before = desk.sign_in(shop)
    phone.sign_in(shop)
    login_at = before["login_at"]
    assert stage.op.call(desk.browser, "sign-out").is_success
    assert desk.is_signed_out(shop)

    next_second()
    [event] = stage.events(shop)
    assert desk.refresh(shop) > event.cutoff
    assert desk.remembered(shop)["login_at"] == login_at
    assert not desk.is_signed_in(shop)

    after = desk.sign_in(shop)
    assert phone.is_signed_in(shop)
    with SessionGuard(stage.redis.url, app=shop.name) as guard:
        assert guard.is_revoked(before)
        assert not guard.is_revoked(after)
