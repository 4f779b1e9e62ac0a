"""What a guard sends to Redis: round trips, its report, and connections shared by many checks."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from backchannel_logout import (
    AppKeys,
    AsyncSessionGuard,
    GuardMisconfigured,
    Reader,
    ReaderKind,
    Session,
    SessionGuard,
)
from tests.client.guard.guard_fixture import (
    ALICE,
    LOGIN,
    NEIGHBOUR,
    OP,
    NewGuard,
    serve_app,
)
from tests.support.patience import PATIENCE
from tests.support.servers.redis_server import RedisServer


def commands_run(client: redis.Redis) -> dict[str, int]:
    """The number of calls of each command since the last ``CONFIG RESETSTAT``."""
    stats = client.info("commandstats")
    own = ("cmdstat_info", "cmdstat_config|resetstat")
    return {
        name.removeprefix("cmdstat_"): stat["calls"]
        for name, stat in stats.items()
        if name not in own
    }


def test_every_check_reads_markers_and_meta_in_one_round_trip(
    new_guard: NewGuard, shared_redis: RedisServer, store: redis.Redis
) -> None:
    guard = new_guard(shared_redis.url, near_cache=0)
    guard.is_revoked(ALICE)
    store.config_resetstat()
    before = store.info("stats")["total_reads_processed"]
    for session in (ALICE, Session(OP, LOGIN), Session(OP, LOGIN, sid="sid-9")):
        guard.is_revoked(session)
    after = store.info("stats")["total_reads_processed"]
    assert commands_run(store) == {"mget": 3, "hget": 3}
    assert after - before == 4  # the checks, and the second INFO itself


def test_an_empty_redis_makes_no_session_alive(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    """It has lost the marker too; an earlier check found no fault."""
    guard = new_guard(shared_redis.url, near_cache=0, on_outage="allow")
    assert guard.is_revoked(NEIGHBOUR) is False
    store.set(AppKeys(app).sid(OP, "sid-1"), LOGIN)
    assert guard.is_revoked(ALICE) is True
    store.delete(AppKeys(app).meta, AppKeys(app).sid(OP, "sid-1"))
    for session in (ALICE, NEIGHBOUR):
        with pytest.raises(GuardMisconfigured, match="no receiver has written"):
            guard.is_revoked(session)
    serve_app(shared_redis, app).close()
    assert guard.is_revoked(NEIGHBOUR) is False


def test_the_first_check_reports_in_the_same_round_trip(
    new_guard: NewGuard, shared_redis: RedisServer, store: redis.Redis
) -> None:
    """And then once a minute."""
    guard = new_guard(shared_redis.url, near_cache=0)
    guard.is_revoked(ALICE)
    guard.report_is_due()
    store.config_resetstat()
    before = store.info("stats")["total_reads_processed"]
    guard.is_revoked(ALICE)
    after = store.info("stats")["total_reads_processed"]
    assert commands_run(store) == {"mget": 1, "hget": 1, "hset": 1, "expire": 1}
    assert after - before == 2  # the check, and the second INFO itself


SIDS: dict[str, tuple[list[Session], dict[str, bool]]] = {
    "all have one": ([ALICE], {OP: True}),
    "one of them has one": ([Session(OP, LOGIN, sub="a"), ALICE], {OP: True}),
    "the last one has none": ([ALICE, Session(OP, LOGIN, sub="a")], {OP: True}),
    "none has one": ([Session(OP, LOGIN, sub="a"), Session(OP, LOGIN, sub="b")], {OP: False}),
    "two issuers": ([ALICE, Session("two", LOGIN, sub="a")], {OP: True, "two": False}),
    "many issuers": (
        [Session(f"op-{n}", LOGIN, sid="s") for n in range(20)],
        {f"op-{n}": True for n in range(8)},
    ),
}


@pytest.mark.parametrize(("sessions", "reported"), SIDS.values(), ids=SIDS)
def test_the_report_has_for_each_issuer_whether_its_sessions_have_a_sid(
    sessions: list[Session],
    reported: dict[str, bool],
    new_guard: NewGuard,
    app: str,
    shared_redis: RedisServer,
    store: redis.Redis,
) -> None:
    guard = new_guard(shared_redis.url, near_cache=0)
    for session in sessions:
        guard.report_is_due()
        guard.is_revoked(session)
    report = Reader.from_json("asks", str(store.hget(AppKeys(app).readers, "asks")))
    assert report is not None
    assert (report.kind, report.sid) == (ReaderKind.ASKS, reported)


def test_a_new_connection_costs_one_more_command(
    new_guard: NewGuard, shared_redis: RedisServer, store: redis.Redis
) -> None:
    """No CLIENT SETINFO, no CLIENT MAINT_NOTIFICATIONS: an ACL user may not be allowed them."""
    store.config_resetstat()
    new_guard(shared_redis.url, near_cache=0).is_revoked(ALICE)
    ran = commands_run(store)
    assert ran == {"hello": 1, "mget": 1, "hget": 3, "hset": 1, "expire": 1}


def test_threads_share_a_guard(shared_redis: RedisServer, app: str, store: redis.Redis) -> None:
    """Each gets the answer to its own query."""
    store.set(AppKeys(app).sid(OP, "dead"), LOGIN)
    sessions = [Session(OP, LOGIN, sid="dead" if n % 2 else f"alive-{n}") for n in range(200)]
    guard = SessionGuard(shared_redis.url, app=app, timeout=PATIENCE)
    with guard, ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(guard.is_revoked, sessions))
    assert answers == [session.sid == "dead" for session in sessions]


async def test_a_burst_of_tasks_shares_a_few_connections(
    shared_redis: RedisServer, app: str, store: redis.Redis
) -> None:
    """More than the library's limit of connections: each waits its turn, none is refused."""
    store.set(AppKeys(app).sid(OP, "dead"), LOGIN)
    sessions = [Session(OP, LOGIN, sid="dead" if n % 2 else f"alive-{n}") for n in range(400)]
    async with AsyncSessionGuard(shared_redis.url, app=app, timeout=PATIENCE) as guard:
        answers = await asyncio.gather(*(guard.is_revoked(session) for session in sessions))
        connected = store.info("clients")["connected_clients"]
    assert answers == [session.sid == "dead" for session in sessions]
    assert connected < 64
