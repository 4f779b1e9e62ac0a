"""The near cache of a Redis user without all the necessary permissions."""

import asyncio
import logging

import pytest

from backchannel_logout import Session
from tests.client.conftest import NewWarmGuard
from tests.support.apps.guards import ALICE
from tests.support.apps.listening import until
from tests.support.revocations import ISS, NOW, AppStore
from tests.support.servers.redis_server import RedisServer


def user_url(app_store: AppStore, server: RedisServer, *rules: str) -> str:
    """The URL of a user with these permissions, named like the app."""
    app_store.look.acl_setuser(app_store.app, enabled=True, reset=True, passwords=["+sesame"])
    markers = f"%R~{app_store.keys.prefix}*"
    app_store.look.execute_command(
        "ACL", "SETUSER", app_store.app, markers, "+mget", "+hget", *rules
    )
    return server.url.replace("//", f"//{app_store.app}:sesame@")


def refusals(app_store: AppStore) -> int:
    """How often Redis has refused the user a command."""
    return sum(e["count"] for e in app_store.look.acl_log() if e["username"] == app_store.app)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.message for one in caplog.records if one.levelno >= logging.WARNING]


STREAM = ("+xread", "+xrange", "+xrevrange", "+role")


@pytest.mark.parametrize("missing", STREAM)
async def test_without_permission_for_the_stream_answers_are_right_and_one_warning_is_logged(
    missing: str, new_warm_guard: NewWarmGuard, app_store: AppStore, shared_redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Nothing is cached."""
    url = user_url(app_store, shared_redis, *(rule for rule in STREAM if rule != missing))
    guard = new_warm_guard("async", url, app_store.app)
    assert not await guard.is_revoked(ALICE)
    await until(lambda: warnings(caplog), "it was logged")
    for _ in range(60):
        assert not await guard.is_revoked(ALICE)
        await asyncio.sleep(0.01)
    assert guard.cache.size == 0
    await app_store.write()
    await guard.sees_the_end_of(ALICE)
    assert len(warnings(caplog)) == 1
    assert "no answer is kept" in warnings(caplog)[0]
    assert "sesame" not in caplog.text


@pytest.mark.slow
async def test_without_permission_to_report_logouts_arrive_and_one_refusal_is_logged(
    kind: str, new_warm_guard: NewWarmGuard, app_store: AppStore, shared_redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    guard = new_warm_guard(kind, user_url(app_store, shared_redis, *STREAM), app_store.app)
    for n in range(3):
        doomed = Session(ISS, NOW - 10, sid=f"s{n}", sub="alice")
        await guard.warm(doomed)
        await app_store.store.write([app_store.numbered(n)])
        await guard.sees_the_end_of(doomed)
    await guard.aclose()
    assert 0 < refusals(app_store) <= 3, "the three commands of one report"
    assert len(warnings(caplog)) == 1
    assert "cannot be reported" in warnings(caplog)[0]
