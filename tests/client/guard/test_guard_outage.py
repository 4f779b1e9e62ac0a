"""A guard that cannot know whether a session is dead."""

import asyncio
import signal
import time
from collections.abc import Callable

import pytest
import redis

from backchannel_logout import (
    AppKeys,
    AsyncSessionGuard,
    GuardMisconfigured,
    RevocationUnknown,
    Session,
    checker,
)
from tests.client.guard.guard_fixture import (
    ALICE,
    LOGIN,
    OP,
    TIMEOUT,
    BlockingGuard,
    NewGuard,
    serve_app,
)
from tests.support.apps.guards import WITHIN
from tests.support.patience import PATIENCE
from tests.support.servers.redis_server import RedisServer, free_port


def test_a_redis_that_no_receiver_serves_is_a_mistake_in_both_modes(
    new_guard: NewGuard, shared_redis: RedisServer
) -> None:
    """Otherwise a wrong URL or app name would keep every session alive forever."""
    for on_outage in ("deny", "allow"):
        guard = new_guard(shared_redis.url, on_outage=on_outage)
        with pytest.raises(GuardMisconfigured, match="no receiver has written"):
            guard.is_revoked(ALICE)


def test_a_guard_works_as_soon_as_a_receiver_serves_its_app(
    new_guard: NewGuard, app: str, shared_redis: RedisServer
) -> None:
    guard = new_guard(shared_redis.url)
    with pytest.raises(GuardMisconfigured):
        guard.is_revoked(ALICE)
    serve_app(shared_redis, app).close()
    assert guard.is_revoked(ALICE) is False


@pytest.mark.parametrize("on_outage", ["deny", "allow"])
@pytest.mark.parametrize("value", ["", "yes", "1.5", "99999999999999999999"])
def test_an_unreadable_marker_does_not_count_as_alive(
    value: str,
    on_outage: str,
    new_guard: NewGuard,
    app: str,
    shared_redis: RedisServer,
    store: redis.Redis,
) -> None:
    """Redis has answered: no outage mode makes this session alive."""
    store.set(AppKeys(app).sid(OP, "sid-1"), value)
    guard = new_guard(shared_redis.url, on_outage=on_outage)
    with pytest.raises(RevocationUnknown, match="not a number"):
        guard.is_revoked(ALICE)
    assert guard.is_revoked(Session(OP, LOGIN, sid="sid-2", sub="alice")) is False


def test_an_unreadable_meta_does_not_count_as_alive(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    store.hset(AppKeys(app).meta, "max_session_age", "for ever")
    with pytest.raises(RevocationUnknown):
        new_guard(shared_redis.url).is_revoked(ALICE)


OUTAGES: dict[str, Callable[[RedisServer], None]] = {
    "stopped": lambda server: server.stop(),
    "killed": lambda server: server.stop(signal.SIGKILL),
    "frozen": lambda server: server.freeze(),
}


@pytest.fixture
def answered(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Callable[[BlockingGuard, Session], bool]:
    """What Redis says through a guard, whose time limit a busy machine may exceed."""
    monkeypatch.setattr(checker, "_LOG_PAUSE", 0)

    def ask(guard: BlockingGuard, session: Session) -> bool:
        deadline = time.monotonic() + WITHIN
        while True:
            caplog.clear()
            try:
                answer = guard.is_revoked(session)
                if "no answer from Redis" not in caplog.text:
                    return answer
            except RevocationUnknown:
                pass
            assert time.monotonic() < deadline, "the guard does not answer"

    return ask


@pytest.mark.slow
@pytest.mark.parametrize("begin", OUTAGES.values(), ids=OUTAGES)
def test_an_outage_is_unknown_or_allowed_and_ends_with_redis_back(
    begin: Callable[[RedisServer], None],
    new_guard: NewGuard,
    app: str,
    redis_server: RedisServer,
    answered: Callable[[BlockingGuard, Session], bool],
) -> None:
    """With `deny` the state is unknown; with `allow` dead sessions live during the outage."""
    with serve_app(redis_server, app) as store:
        store.set(AppKeys(app).sid(OP, "dead"), LOGIN)
    dead = Session(OP, LOGIN, sid="dead")
    deny = new_guard(redis_server.url, timeout=TIMEOUT)
    allow = new_guard(redis_server.url, timeout=TIMEOUT, on_outage="allow")
    assert [answered(guard, dead) for guard in (deny, allow)] == [True, True]

    begin(redis_server)
    for _ in range(2):
        with pytest.raises(RevocationUnknown):
            deny.is_revoked(dead)
        assert allow.is_revoked(dead) is False

    if redis_server.process:
        redis_server.thaw()
    else:
        redis_server.start()
    for session in (ALICE, dead, ALICE, dead):
        assert answered(deny, session) is (session is dead)
        assert answered(allow, session) is (session is dead)


def test_a_guard_may_be_built_while_redis_is_away(new_guard: NewGuard) -> None:
    """An app starts before its Redis does."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    with pytest.raises(RevocationUnknown):
        new_guard(url, timeout=TIMEOUT).is_revoked(ALICE)
    assert new_guard(url, timeout=TIMEOUT, on_outage="allow").is_revoked(ALICE) is False


async def test_a_cancelled_check_leaves_no_answer_for_the_next_one(
    redis_server: RedisServer, app: str
) -> None:
    """Its connection must not be used again with a reply in transit."""
    with serve_app(redis_server, app) as store:
        store.set(AppKeys(app).sid(OP, "dead"), LOGIN)
    dead = Session(OP, LOGIN, sid="dead")
    async with AsyncSessionGuard(redis_server.url, app=app, timeout=PATIENCE) as guard:
        assert await guard.is_revoked(dead)
        redis_server.freeze()
        checks = [asyncio.create_task(guard.is_revoked(dead)) for _ in range(50)]
        await asyncio.sleep(0.05)
        for check in checks:
            check.cancel()
        ended = await asyncio.gather(*checks, return_exceptions=True)
        assert {type(one) for one in ended} == {asyncio.CancelledError}
        redis_server.thaw()
        assert not any([await guard.is_revoked(ALICE) for _ in range(50)])
        assert all([await guard.is_revoked(dead) for _ in range(50)])
