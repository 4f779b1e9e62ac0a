"""The near cache of a Redis user who may not do all that it needs."""

import asyncio
import logging

import pytest

from backchannel_logout import Session
from tests.client.conftest import NewWarmGuard
from tests.support.guards import ALICE
from tests.support.listening import until
from tests.support.redis_server import RedisServer
from tests.support.revocations import ISS, NOW, Shelf


def user_url(shelf: Shelf, server: RedisServer, *rules: str) -> str:
    """The URL of a user who may do so much, under the name of the app."""
    shelf.look.acl_setuser(shelf.app, enabled=True, reset=True, passwords=["+sesame"])
    markers = f"%R~{shelf.keys.prefix}*"
    shelf.look.execute_command("ACL", "SETUSER", shelf.app, markers, "+mget", "+hget", *rules)
    return server.url.replace("//", f"//{shelf.app}:sesame@")


def refusals(shelf: Shelf) -> int:
    """How often Redis has refused the user something."""
    return sum(e["count"] for e in shelf.look.acl_log() if e["username"] == shelf.app)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.message for one in caplog.records if one.levelno >= logging.WARNING]


STREAM = ("+xread", "+xrange", "+xrevrange", "+role")


@pytest.mark.parametrize("missing", STREAM)
async def test_a_user_who_may_not_read_the_stream_gets_right_answers_and_one_warning(
    missing: str, new_warm_guard: NewWarmGuard, shelf: Shelf, shared_redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Nothing is kept."""
    url = user_url(shelf, shared_redis, *(rule for rule in STREAM if rule != missing))
    guard = new_warm_guard("async", url, shelf.app)
    assert not await guard.is_revoked(ALICE)
    await until(lambda: warnings(caplog), "it was said")
    for _ in range(60):
        assert not await guard.is_revoked(ALICE)
        await asyncio.sleep(0.01)
    assert guard.cache.size == 0
    await shelf.write()
    await guard.sees_the_end_of(ALICE)
    assert len(warnings(caplog)) == 1
    assert "no answer is kept" in warnings(caplog)[0]
    assert "sesame" not in caplog.text


@pytest.mark.slow
async def test_a_user_who_may_not_report_is_told_of_logouts_and_refused_once(
    kind: str, new_warm_guard: NewWarmGuard, shelf: Shelf, shared_redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    guard = new_warm_guard(kind, user_url(shelf, shared_redis, *STREAM), shelf.app)
    for n in range(3):
        doomed = Session(ISS, NOW - 10, sid=f"s{n}", sub="alice")
        await guard.warm(doomed)
        await shelf.store.write([shelf.numbered(n)])
        await guard.sees_the_end_of(doomed)
    await guard.aclose()
    assert 0 < refusals(shelf) <= 3, "the three commands of one report"
    assert len(warnings(caplog)) == 1
    assert "cannot be reported" in warnings(caplog)[0]
