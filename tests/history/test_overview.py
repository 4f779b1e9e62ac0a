"""The apps' overviews, and the audit."""

import asyncio
import time

import pytest

from app.audit import Act, Audit
from app.history import History
from app.store.topology import connect
from backchannel_logout import (
    AppStatus,
    Outcome,
    Reader,
    ReaderKind,
    Receipt,
    Session,
    SessionGuard,
)
from tests.history.conftest import NewHistory
from tests.support.patience import PATIENCE
from tests.support.revocations import ISS, AppStore
from tests.support.servers.redis_server import RedisServer, free_port


async def test_an_app_without_readers_has_only_its_stream(
    history: History, app_store: AppStore
) -> None:
    await app_store.write()
    (app,) = await history.overviews()
    assert (app.app, app.max_session_age, app.events, app.fault) == (app_store.app, 3600, 1, None)
    assert app.last_event is not None
    assert app.last_event.event == app_store.events()[0]
    assert (app.active, app.silent, app.behind, app.groups) == (0, 0, None, ())
    assert (app.receipts, app.dead_letters, app.teardown_median) == (0, 0, None)


async def test_readers_groups_receipts_and_dead_letters_are_counted(
    history: History, app_store: AppStore
) -> None:
    for n in range(3):
        await app_store.write(sid=f"s{n}", once=None)
    first, second, _ = (event.id or "" for event in app_store.events())
    now = time.time()
    for name, kind, at, position in [
        ("web-1", ReaderKind.CACHE, now, first),
        ("web-2", ReaderKind.CACHE, now, second),
        ("web-3", ReaderKind.CACHE, now - 61, "0-0"),
        ("ended", ReaderKind.ENDED, now - 3600, None),
        ("job", ReaderKind.GROUP, now, "0-0"),
    ]:
        one = Reader(name=name, kind=kind, at=at, position=position)
        app_store.look.hset(app_store.keys.readers, name, one.to_json())
    app_store.look.xgroup_create(app_store.keys.events, "mail", "0")
    app_store.look.xreadgroup("mail", "job", {app_store.keys.events: ">"}, count=1)
    for seconds in (0.1, 0.2, 0.9):
        receipt = Receipt(
            event=first, listener="mail", reader="job", seconds=seconds, outcome=Outcome.DONE
        )
        app_store.look.xadd(app_store.keys.receipts, receipt.to_fields())  # type: ignore[arg-type]
    app_store.look.xadd(app_store.keys.dead_letters, {"dl_event": first})
    (app,) = await history.overviews()
    assert (app.readers, app.active, app.silent) == ((("cache", 2), ("group", 1)), 3, 1)
    assert app.behind == 2
    (group,) = app.groups
    assert (group.name, group.consumers, group.pending) == ("mail", 1, 1)
    assert (group.lag, group.last_delivered) == (2, first)
    assert (app.receipts, app.teardown_median, app.teardown_slowest) == (3, 0.2, 0.9)
    assert app.dead_letters == 1
    assert app.last_dead_letter is not None
    assert abs(app.last_dead_letter - now) < 60


@pytest.mark.parametrize("idle", [1, 61, 3600, 3 * 86400])
async def test_an_app_that_queries_redis_and_is_idle_is_neither_silent_nor_behind(
    idle: float, history: History, app_store: AppStore, shared_redis: RedisServer
) -> None:
    """A real guard has queried Redis; then it is idle, and a logout arrives."""
    with SessionGuard(shared_redis.url, app=app_store.app, timeout=PATIENCE) as guard:
        await asyncio.to_thread(guard.is_revoked, Session(ISS, int(time.time()), sub="alice"))
    await app_store.write(once=None)
    history._clock = lambda: time.time() + idle
    (app,) = await history.overviews()
    assert (app.readers, app.active, app.silent, app.behind) == ((("asks", 1),), 1, 0, None)
    assert app.asked_at is not None
    (told,) = await history.recent()
    proof = (await history.with_proof(told)).proof
    assert proof is not None
    assert proof.status is AppStatus.ASKS


async def test_an_app_without_a_query_for_more_than_a_week_is_silent(
    history: History, app_store: AppStore
) -> None:
    old = Reader(name="asks", kind=ReaderKind.ASKS, at=time.time() - 8 * 86400)
    app_store.look.hset(app_store.keys.readers, old.name, old.to_json())
    (app,) = await history.overviews()
    assert (app.active, app.silent, app.asked_at) == (0, 1, None)


async def test_a_reader_that_has_just_ended_does_not_count_as_silent(
    history: History, app_store: AppStore
) -> None:
    ended = Reader(name="ended", kind=ReaderKind.ENDED, at=time.time())
    app_store.look.hset(app_store.keys.readers, ended.name, ended.to_json())
    (app,) = await history.overviews()
    assert (app.active, app.silent, app.reported) == (0, 0, True)


async def test_one_app_s_fault_does_not_affect_the_others(
    new_history: NewHistory, app_store: AppStore, shared_redis: RedisServer
) -> None:
    away, *_ = await new_history(f"redis://127.0.0.1:{free_port()}/0", "shop").overviews()
    assert (away.app, away.fault) == ("shop", "ConnectionError")
    broken = app_store.app + "-broken"
    app_store.look.set(f"bcl:v1:{{{broken}}}:events", "not a stream")
    found = await new_history(shared_redis.url, app_store.app, broken).overviews()
    assert [(app.app, app.fault) for app in found] == [(app_store.app, None), (broken, "WRONGTYPE")]


async def test_an_act_is_read_back_as_it_was_written(
    new_history: NewHistory, redis_server: RedisServer
) -> None:
    client = connect(redis_server.url)
    audit = Audit(client, lambda value: f"hash of {value}", clock=lambda: 1795283041.2071)
    for who in ("anna", "ben"):
        act = Act(act="revoke", who=who, why="lost phone", apps=("shop", "wiki"), sid="s1")
        await audit.write(act)
    newest, first = await new_history(redis_server.url, "shop").audit()
    assert (newest.who, first.who, first.act, first.why) == ("ben", "anna", "revoke", "lost phone")
    assert (first.at, first.apps, first.sub_hash) == (1795283041.207, ("shop", "wiki"), None)
    assert first.sid_hash == "hash of s1"
    await client.aclose()
