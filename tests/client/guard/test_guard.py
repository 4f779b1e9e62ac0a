"""The guards against a real Redis: which sessions are dead and which are alive."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from backchannel_logout import (
    AppKeys,
    Session,
    SessionNotIdentified,
    remember,
)
from tests.client.guard.guard_fixture import (
    AGE,
    ALICE,
    LOGIN,
    OP,
    NewGuard,
    serve_app,
)
from tests.support.servers.redis_server import RedisServer


@pytest.mark.usefixtures("store")
def test_a_session_without_a_marker_is_alive(
    new_guard: NewGuard, shared_redis: RedisServer
) -> None:
    assert new_guard(shared_redis.url).is_revoked(ALICE) is False


MARKERS: dict[str, Callable[[AppKeys], str]] = {
    "its session id": lambda keys: keys.sid(OP, "sid-1"),
    "its user": lambda keys: keys.sub(OP, "alice"),
    "its issuer": lambda keys: keys.all(OP),
}


@pytest.mark.parametrize("marker", MARKERS.values(), ids=MARKERS)
def test_a_marker_ends_the_session_and_a_later_login_lives(
    marker: Callable[[AppKeys], str],
    new_guard: NewGuard,
    app: str,
    shared_redis: RedisServer,
    store: redis.Redis,
) -> None:
    guard = new_guard(shared_redis.url)
    store.set(marker(AppKeys(app)), LOGIN)
    assert guard.is_revoked(ALICE) is True
    assert guard.is_revoked(Session(OP, LOGIN + 1, sid="sid-1", sub="alice")) is False


NEIGHBOURS = {
    "another session of the same user": ("its session id", Session(OP, LOGIN, "sid-2", "alice")),
    "the same user without a session id": ("its session id", Session(OP, LOGIN, sub="alice")),
    "another user": ("its user", Session(OP, LOGIN, "sid-3", "bob")),
    "another user under the same session id": ("its user", Session(OP, LOGIN, "sid-1", "bob")),
    "another issuer": ("its issuer", Session("https://op.example", LOGIN, "sid-1", "alice")),
}


@pytest.mark.parametrize(("marker", "neighbour"), NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_the_neighbour_lives(
    marker: str,
    neighbour: Session,
    new_guard: NewGuard,
    app: str,
    shared_redis: RedisServer,
    store: redis.Redis,
) -> None:
    """One session has ended, and another one is checked with it."""
    guard = new_guard(shared_redis.url)
    store.set(MARKERS[marker](AppKeys(app)), LOGIN)
    assert guard.is_revoked(ALICE) is True
    assert guard.is_revoked(neighbour) is False


def test_another_app_keeps_its_session(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    serve_app(shared_redis, f"{app}-wiki").close()
    store.set(AppKeys(app).sid(OP, "sid-1"), LOGIN)
    assert new_guard(shared_redis.url).is_revoked(ALICE) is True
    assert new_guard(shared_redis.url, app=f"{app}-wiki").is_revoked(ALICE) is False


def test_the_stored_member_alone_can_be_checked(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    session: dict[str, Any] = {"cart": 1}
    remember(session, {"iss": OP, "sub": "alice", "sid": "sid-1", "iat": LOGIN + 0.9})
    by_itself = {"iss": OP, "sub": "alice", "sid": "sid-1", "login_at": LOGIN}
    of_an_earlier_release = {"cart": 1, **by_itself}
    guard = new_guard(shared_redis.url, near_cache=0)
    for one in (session, by_itself, of_an_earlier_release):
        assert guard.is_revoked(one) is False
    store.set(AppKeys(app).sid(OP, "sid-1"), LOGIN)
    for one in (session, by_itself, of_an_earlier_release):
        assert guard.is_revoked(one) is True


def test_a_code_from_before_the_logout_opens_no_session_after_it(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    """`auth_time` distinguishes it from a new login."""
    logout = LOGIN + 300
    store.set(AppKeys(app).sid(OP, "sid-1"), logout)
    guard = new_guard(shared_redis.url)

    def login(iat: int, **claims: int) -> dict[str, Any]:
        session: dict[str, Any] = {}
        remember(session, {"iss": OP, "sub": "alice", "sid": "sid-1", "iat": iat, **claims})
        return session

    assert guard.is_revoked(login(logout + 20, auth_time=LOGIN)) is True
    assert guard.is_revoked(login(logout + 61, auth_time=LOGIN)) is False
    assert guard.is_revoked(login(logout + 2, auth_time=logout + 1)) is False
    assert guard.is_revoked(login(logout + 20)) is False, "it looks like a new login"
    both = [login(logout + 20, auth_time=LOGIN), login(logout + 20, auth_time=logout + 1)]
    found = guard.guard.which_revoked(map(Session.from_mapping, both))
    dead = guard._runner.run(found) if guard._runner else found
    assert dead == [Session.from_mapping(both[0])]


@pytest.mark.usefixtures("store")
def test_a_session_without_a_sid_among_others_with_one_is_logged_once(
    new_guard: NewGuard, shared_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    guard = new_guard(shared_redis.url)
    without = Session(ALICE.iss, ALICE.login_at, sub="bob")
    assert guard.is_revoked(without) is False
    assert "has no sid" not in caplog.text, "as with a provider that never sends one"
    assert guard.is_revoked(ALICE) is False
    for _ in range(2):
        assert guard.is_revoked(without) is False
    assert caplog.text.count("has no sid") == 1


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(("past", "dead"), [(0, False), (1, True)])
def test_a_session_is_dead_past_max_session_age(
    past: int, dead: bool, new_guard: NewGuard, shared_redis: RedisServer
) -> None:
    guard = new_guard(shared_redis.url, clock=lambda: LOGIN + AGE + past)
    assert guard.is_revoked(ALICE) is dead


def test_a_new_max_session_age_is_taken_over(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    """An operator shortens it while the app runs."""
    guard = new_guard(shared_redis.url)
    assert guard.is_revoked(ALICE) is False
    store.hset(AppKeys(app).meta, "max_session_age", "60")
    assert guard.is_revoked(ALICE) is True


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("session", [{}, {"iss": OP, "login_at": "soon"}], ids=["empty", "bad"])
def test_a_session_that_was_not_remembered_is_a_mistake_and_not_an_outage(
    session: dict[str, Any], new_guard: NewGuard, shared_redis: RedisServer
) -> None:
    guard = new_guard(shared_redis.url, on_outage="allow")
    with pytest.raises(SessionNotIdentified):
        guard.is_revoked(session)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://127.0.0.1/", {"app": "shop"}),
        ("redis://127.0.0.1/", {"app": "Shop"}),
        ("redis://127.0.0.1/", {"app": "shop", "on_outage": "ignore"}),
    ],
    ids=["not a Redis URL", "not an app name", "not a mode"],
)
def test_a_wrong_argument_is_refused_at_once(
    url: str, options: dict[str, Any], new_guard: NewGuard
) -> None:
    with pytest.raises(ValueError, match=r"URL|name|on_outage"):
        new_guard(url, **options)
