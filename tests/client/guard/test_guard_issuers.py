"""A guard answers only for its app's issuers and client ids."""

from typing import Any

import pytest
import redis

from backchannel_logout import (
    AppKeys,
    GuardMisconfigured,
    RevocationUnknown,
    Session,
    remember,
)
from tests.client.guard.guard_fixture import (
    ALICE,
    LOGIN,
    OP,
    NewGuard,
)
from tests.support.servers.redis_server import RedisServer

SERVED = '["https://alias.example/", "https://op.example/"]'


def test_sessions_of_a_served_issuer_are_checked(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    """Under any of its names."""
    store.hset(AppKeys(app).meta, "issuers", SERVED)
    guard = new_guard(shared_redis.url, near_cache=0)
    for iss in (OP, "https://alias.example/"):
        assert guard.is_revoked(Session(iss, LOGIN, sid="sid-1")) is False
        store.set(AppKeys(app).sid(iss, "sid-1"), LOGIN)
        assert guard.is_revoked(Session(iss, LOGIN, sid="sid-1")) is True


@pytest.mark.parametrize("near_cache", [0, 100])
@pytest.mark.parametrize("on_outage", ["deny", "allow"])
def test_a_session_of_an_unserved_issuer_is_never_alive(
    on_outage: str,
    near_cache: int,
    new_guard: NewGuard,
    app: str,
    shared_redis: RedisServer,
    store: redis.Redis,
) -> None:
    """As for a guard with another app's name: no logout would ever reach the session."""
    store.hset(AppKeys(app).meta, "issuers", SERVED)
    guard = new_guard(shared_redis.url, near_cache=near_cache, on_outage=on_outage)
    with pytest.raises(GuardMisconfigured) as raised:
        guard.is_revoked(Session("https://op.example", LOGIN, sid="sid-1"))
    for named in ("'https://op.example'", "'https://op.example/'", repr(app)):
        assert named in str(raised.value)
    assert guard.is_revoked(ALICE) is False, "the others are checked as before"


def test_an_issuer_that_is_added_is_served_at_the_next_check(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    store.hset(AppKeys(app).meta, "issuers", "[]")
    guard = new_guard(shared_redis.url, near_cache=0)
    with pytest.raises(GuardMisconfigured, match="nobody"):
        guard.is_revoked(ALICE)
    store.hset(AppKeys(app).meta, "issuers", SERVED)
    assert guard.is_revoked(ALICE) is False


def test_an_issuer_that_is_removed_is_noticed_within_a_minute(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    store.hset(AppKeys(app).meta, "issuers", SERVED)
    guard = new_guard(shared_redis.url, near_cache=0)
    assert guard.is_revoked(ALICE) is False
    store.hset(AppKeys(app).meta, "issuers", '["https://other.example"]')
    guard.guard._checker.meta._names_until = float("-inf")  # as if the minute had passed
    with pytest.raises(GuardMisconfigured, match=r"other\.example"):
        guard.is_revoked(ALICE)


def test_a_session_of_another_apps_client_is_not_answered(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    """A guard with another app's name, where both apps have the same provider."""
    names = {"issuers": SERVED, "client_ids": '["shop-web"]'}
    store.hset(AppKeys(app).meta, mapping=names)
    claims = {"iss": ALICE.iss, "sub": "alice", "iat": ALICE.login_at}
    for near_cache in (0, 16):
        guard = new_guard(shared_redis.url, near_cache=near_cache, on_outage="allow")
        for aud, served in (("shop-web", True), (["shop-web"], True), ("wiki-web", False)):
            session: dict[str, Any] = {}
            remember(session, claims | {"aud": aud})
            for _ in range(2):
                if served:
                    assert guard.is_revoked(session) is False
                else:
                    with pytest.raises(
                        GuardMisconfigured, match=r"client id 'wiki-web'.*'shop-web'"
                    ):
                        guard.is_revoked(session)


@pytest.mark.parametrize("value", ["", "{}", "[1]", "nobody", '"x"', "[" * 100_000])
def test_unreadable_issuers_make_no_session_alive(
    value: str, new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    store.hset(AppKeys(app).meta, "issuers", value)
    with pytest.raises(RevocationUnknown, match="issuers"):
        new_guard(shared_redis.url, on_outage="allow").is_revoked(ALICE)
