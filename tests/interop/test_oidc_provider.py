"""npm's oidc-provider: a session that ends there ends in the relying app, and no other.

It waits 2.5 s for the receiver and never retries. Its tokens, ID tokens included, have a ``sid``
only for clients with ``backchannel_logout_session_required``.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backchannel_logout import EventKind, SessionGuard
from tests.interop.interop_fixture import InteropSetup
from tests.interop.oidc_provider import OidcProvider
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.interop

ALGORITHMS = ("RS256", "ES256", "EdDSA")
YES = "Yes, sign me out"
WITH_SID = pytest.mark.parametrize("with_sid", [True, False], ids=["sid", "sub_only"])


@pytest.fixture
def setup(
    oidc_provider: OidcProvider, shared_redis: RedisServer, tmp_path: Path
) -> Iterator[InteropSetup[OidcProvider]]:
    with InteropSetup(oidc_provider, shared_redis, tmp_path) as parts:
        yield parts
    oidc_provider.set_clock(0)


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_logout_with_sid_ends_only_that_session(
    setup: InteropSetup[OidcProvider], alg: str
) -> None:
    """The user's session in another browser survives, as does another user's."""
    [shop] = setup.open("shop", alg=alg, with_sid=True)
    laptop, phone, bob = setup.visitor("alice"), setup.visitor("alice"), setup.visitor("bob")
    ended, lives = laptop.sign_in(shop), phone.sign_in(shop)
    bob.sign_in(shop)
    assert ended["sid"] != lives["sid"]

    laptop.end_session(shop, YES)

    assert setup.op.delivery_fault(shop.client_id) is None
    assert laptop.is_signed_out(shop)
    assert phone.is_signed_in(shop)
    assert bob.is_signed_in(shop)
    [event] = setup.events(shop)
    assert event.kind is EventKind.SESSION
    assert (event.iss, event.sid, event.sub) == (setup.op.issuer, ended["sid"], "alice")
    assert (event.app, event.client_ids) == (shop.name, (shop.client_id,))
    assert event.cutoff >= ended["login_at"]


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_logout_without_sid_ends_every_session_of_the_user(
    setup: InteropSetup[OidcProvider], alg: str
) -> None:
    """Another user's session survives."""
    [shop] = setup.open("shop", alg=alg, with_sid=False)
    laptop, phone, bob = setup.visitor("alice"), setup.visitor("alice"), setup.visitor("bob")
    ended = laptop.sign_in(shop)
    phone.sign_in(shop)
    bob.sign_in(shop)
    assert ended["sid"] is None

    laptop.end_session(shop, YES)

    assert setup.op.delivery_fault(shop.client_id) is None
    assert laptop.is_signed_out(shop)
    assert phone.is_signed_out(shop)
    assert bob.is_signed_in(shop)
    [event] = setup.events(shop)
    assert event.kind is EventKind.USER
    assert (event.iss, event.sid, event.sub) == (setup.op.issuer, None, "alice")
    assert (event.app, event.client_ids) == (shop.name, (shop.client_id,))
    assert event.cutoff >= ended["login_at"]


@WITH_SID
def test_a_refresh_neither_before_nor_after_the_logout_brings_the_session_back(
    setup: InteropSetup[OidcProvider], with_sid: bool
) -> None:
    """The refresh token outlives the logout; the iat of its ID tokens is not the login's."""
    [shop] = setup.open("shop", alg="RS256", with_sid=with_sid)
    alice = setup.visitor("alice")
    session = alice.sign_in(shop)
    login_at = session["login_at"]

    setup.op.set_clock(ahead=5)
    assert alice.refresh(shop) > login_at
    assert alice.remembered(shop)["login_at"] == login_at
    assert alice.is_signed_in(shop)

    alice.end_session(shop, YES)
    assert setup.op.delivery_fault(shop.client_id) is None
    assert alice.is_signed_out(shop)

    setup.op.set_clock(ahead=10)
    [event] = setup.events(shop)
    assert alice.refresh(shop) > event.cutoff
    assert alice.remembered(shop)["login_at"] == login_at
    assert alice.is_signed_out(shop)


@WITH_SID
def test_a_login_after_the_logout_lives(setup: InteropSetup[OidcProvider], with_sid: bool) -> None:
    """Also when the marker names the user; the earlier session stays dead."""
    [shop] = setup.open("shop", alg="RS256", with_sid=with_sid)
    alice = setup.visitor("alice")
    before = alice.sign_in(shop)
    alice.end_session(shop, YES)
    assert setup.op.delivery_fault(shop.client_id) is None

    setup.op.set_clock(ahead=5)
    after = alice.sign_in(shop)

    with SessionGuard(setup.redis.url, app=shop.name) as guard:
        assert guard.is_revoked(before)
        assert not guard.is_revoked(after)


@WITH_SID
def test_one_logout_ends_the_sessions_of_every_client(
    setup: InteropSetup[OidcProvider], with_sid: bool
) -> None:
    """Each client gets its own token and, if it has one, its own sid."""
    shop, forum = setup.open("shop", "forum", alg="RS256", with_sid=with_sid)
    alice, bob = setup.visitor("alice"), setup.visitor("bob")
    in_shop, in_forum = alice.sign_in(shop), alice.sign_in_without_password(forum)
    bob.sign_in(shop)
    bob.sign_in_without_password(forum)

    alice.end_session(shop, YES)

    for app, session in ((shop, in_shop), (forum, in_forum)):
        assert setup.op.delivery_fault(app.client_id) is None
        assert alice.is_signed_out(app)
        assert bob.is_signed_in(app)
        [event] = setup.events(app)
        assert (event.sid, event.sub) == (session["sid"], "alice")


def test_signing_out_of_one_client_leaves_the_other_one(setup: InteropSetup[OidcProvider]) -> None:
    """Declining to end the provider's session signs out only of the app itself."""
    shop, forum = setup.open("shop", "forum", alg="RS256", with_sid=True)
    alice = setup.visitor("alice")
    alice.sign_in(shop)
    alice.sign_in_without_password(forum)

    alice.end_session(shop, answer="No, stay signed in")

    assert setup.op.delivery_fault(shop.client_id) is None
    assert alice.is_signed_out(shop)
    assert alice.is_signed_in(forum)
    assert setup.events(forum) == []


@pytest.mark.parametrize("alg", ["ES256", "EdDSA"])
def test_an_algorithm_that_is_not_pinned_ends_nothing(
    setup: InteropSetup[OidcProvider], alg: str
) -> None:
    """The provider publishes the key, but the issuer's list decides, and the refusal is 400."""
    [shop] = setup.open("shop", alg=alg, with_sid=True, accepts=("RS256",))
    alice = setup.visitor("alice")
    alice.sign_in(shop)

    alice.end_session(shop, YES)

    fault = setup.op.delivery_fault(shop.client_id)
    assert fault is not None
    assert "400" in fault
    assert setup.receiver.wait_for_log_event("logout", reason="alg")
    assert alice.is_signed_in(shop)
    assert setup.events(shop) == []
