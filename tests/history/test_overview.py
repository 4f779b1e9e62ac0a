"""Apps at a glance, and the audit."""

import time

from app.audit import Act, Audit
from app.history import History
from app.publish.redis_link import connect
from backchannel_logout import Outcome, Reader, ReaderKind, Receipt
from tests.support.redis_server import RedisServer, free_port
from tests.support.revocations import Shelf

from .conftest import NewHistory


async def test_an_app_that_nobody_reads_has_its_stream_and_nothing_else(
    history: History, shelf: Shelf
) -> None:
    await shelf.write()
    (app,) = await history.overviews()
    assert (app.app, app.max_session_age, app.events, app.fault) == (shelf.app, 3600, 1, None)
    assert app.last_event is not None
    assert app.last_event.event == shelf.events()[0]
    assert (app.active, app.silent, app.behind, app.groups) == (0, 0, None, ())
    assert (app.receipts, app.dead_letters, app.teardown_median) == (0, 0, None)


async def test_readers_groups_receipts_and_dead_letters_are_counted(
    history: History, shelf: Shelf
) -> None:
    for n in range(3):
        await shelf.write(sid=f"s{n}", once=None)
    first, second, _ = (event.id or "" for event in shelf.events())
    now = time.time()
    for name, kind, at, position in [
        ("web-1", ReaderKind.CACHE, now, first),
        ("web-2", ReaderKind.CACHE, now, second),
        ("web-3", ReaderKind.CACHE, now - 61, "0-0"),
        ("ended", ReaderKind.ENDED, now - 3600, None),
        ("job", ReaderKind.GROUP, now, "0-0"),
    ]:
        one = Reader(name=name, kind=kind, at=at, position=position)
        shelf.look.hset(shelf.keys.readers, name, one.to_json())
    shelf.look.xgroup_create(shelf.keys.events, "mail", "0")
    shelf.look.xreadgroup("mail", "job", {shelf.keys.events: ">"}, count=1)
    for seconds in (0.1, 0.2, 0.9):
        receipt = Receipt(
            event=first, listener="mail", reader="job", seconds=seconds, outcome=Outcome.DONE
        )
        shelf.look.xadd(shelf.keys.receipts, receipt.to_fields())  # type: ignore[arg-type]
    shelf.look.xadd(shelf.keys.dead_letters, {"dl_event": first})
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


async def test_one_app_s_fault_leaves_the_others_alone(
    new_history: NewHistory, shelf: Shelf, shared_redis: RedisServer
) -> None:
    away, *_ = await new_history(f"redis://127.0.0.1:{free_port()}/0", "shop").overviews()
    assert (away.app, away.fault) == ("shop", "ConnectionError")
    broken = shelf.app + "-broken"
    shelf.look.set(f"bcl:v1:{{{broken}}}:events", "not a stream")
    found = await new_history(shared_redis.url, shelf.app, broken).overviews()
    assert [(app.app, app.fault) for app in found] == [(shelf.app, None), (broken, "WRONGTYPE")]


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
