"""The script in a real Redis: whole, once, and never a step back."""

import asyncio
import json
import time
from collections.abc import Callable

import pytest
import redis
from redis.exceptions import ReadOnlyError

from app.revocation import MARKER_MARGIN_SECONDS, Once
from app.store.errors import RedisAway, RedisUnwilling, RevocationRefused
from app.store.store import _SCRIPT, NEW_MARKER
from backchannel_logout import AppKeys, Event, EventKind
from tests.support.redis_server import RedisServer
from tests.support.revocations import ISS, NOW, Shelf, revocation
from tests.support.store_fixtures import NewShelf


async def test_a_revocation_is_marker_event_jti_and_message(shelf: Shelf) -> None:
    with shelf.look.pubsub() as feed:
        feed.subscribe(shelf.keys.feed)
        assert feed.get_message(timeout=5)
        assert await shelf.write() == NEW_MARKER
        message = feed.get_message(timeout=5)
    assert shelf.look.get(shelf.marker) == str(NOW)
    assert 3600 < shelf.look.ttl(shelf.marker) <= 3600 + MARKER_MARGIN_SECONDS
    once = shelf.keys.jti(ISS, "j1", "s1", "alice")
    assert shelf.look.get(once) == "1"
    assert 290 < shelf.look.ttl(once) <= 300
    (event,) = shelf.events()
    assert message is not None
    assert Event.from_json(message["data"]) == event
    assert (event.iss, event.sid, event.sub, event.cutoff) == (ISS, "s1", "alice", NOW)
    assert set(shelf.look.keys(f"*{shelf.app}*")) == {shelf.marker, once, shelf.keys.events}


@pytest.mark.parametrize(
    "hostile", ['q"uo\\te', "new\nline", "\x00\x7f", "ünï ☃ \U0001f600", "%s{}"]
)
async def test_any_text_survives_the_way_through_stream_and_channel(
    hostile: str, shelf: Shelf
) -> None:
    with shelf.look.pubsub() as feed:
        feed.subscribe(shelf.keys.feed)
        assert feed.get_message(timeout=5)
        await shelf.write(sid=hostile, sub=hostile, client_ids=(hostile,))
        message = feed.get_message(timeout=5)
    (event,) = shelf.events()
    assert (event.sid, event.sub, event.client_ids) == (hostile, hostile, (hostile,))
    assert message is not None
    assert Event.from_json(message["data"]) == event


async def test_a_message_that_comes_again_changes_nothing(shelf: Shelf) -> None:
    assert await shelf.write() == NEW_MARKER
    shelf.look.delete(shelf.marker)
    assert await shelf.write() == 0
    assert shelf.look.exists(shelf.marker) == 0
    assert len(shelf.events()) == 1


async def test_a_jti_that_collides_does_not_swallow_another_logout(shelf: Shelf) -> None:
    """LemonLDAP::NG's jti has eight characters."""
    await shelf.write()
    other = Once("j1", "s2", "bob", time.time() + 300)
    assert await shelf.write(sid="s2", sub="bob", once=other) == NEW_MARKER


async def test_the_jti_of_a_token_that_can_not_come_again_is_not_kept(shelf: Shelf) -> None:
    assert await shelf.write(once=Once("j1", "s1", "alice", time.time() - 1)) == NEW_MARKER
    assert shelf.look.exists(shelf.keys.jti(ISS, "j1", "s1", "alice")) == 0


async def test_a_marker_never_steps_back(shelf: Shelf) -> None:
    """Neither its cutoff nor its life."""
    await shelf.write(once=None, max_session_age=7200)
    life = shelf.look.ttl(shelf.marker)
    await shelf.write(once=None, since=NOW - 100)
    assert shelf.look.get(shelf.marker) == str(NOW)
    assert shelf.look.ttl(shelf.marker) >= life - 5
    await shelf.write(once=None, since=NOW + 100, max_session_age=60)
    assert shelf.look.get(shelf.marker) == str(NOW + 100)
    assert shelf.look.ttl(shelf.marker) >= life - 5
    shelf.look.persist(shelf.marker)
    await shelf.write(once=None)
    assert shelf.look.ttl(shelf.marker) == -1
    assert len(shelf.events()) == 4, "readers hear of each accepted revocation"


async def test_a_marker_that_can_not_be_read_is_replaced(shelf: Shelf) -> None:
    shelf.look.set(shelf.marker, "rubbish")
    await shelf.write()
    assert shelf.look.get(shelf.marker) == str(NOW)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (EventKind.SESSION, lambda keys: keys.sid(ISS, "s1")),
        (EventKind.USER, lambda keys: keys.sub(ISS, "alice")),
        (EventKind.ALL, lambda keys: keys.all(ISS)),
    ],
)
async def test_each_kind_writes_its_one_marker(
    kind: EventKind, key: Callable[[AppKeys], str], shelf: Shelf
) -> None:
    await shelf.write(kind=kind, once=None)
    assert set(shelf.look.keys(f"*{shelf.app}*")) == {key(shelf.keys), shelf.keys.events}
    (event,) = shelf.events()
    assert event.kind is kind
    assert (event.sid is None) == (kind is not EventKind.SESSION)


async def test_every_name_of_the_issuer_gets_its_marker_and_event(shelf: Shelf) -> None:
    names = (ISS, "https://alias.example", "https://other.example")
    await shelf.write(issuer_names=names)
    assert [shelf.look.get(shelf.keys.sid(name, "s1")) for name in names] == [str(NOW)] * 3
    assert [event.iss for event in shelf.events()] == list(names)


async def test_the_stream_is_trimmed_by_length(
    new_shelf: NewShelf, shared_redis: RedisServer
) -> None:
    shelf = new_shelf(shared_redis, event_max_len=5)
    for n in range(12):
        await shelf.write(sid=f"s{n}", once=None)
    assert [event.sid for event in shelf.events()] == [f"s{n}" for n in range(7, 12)]


async def test_the_stream_is_trimmed_by_age(new_shelf: NewShelf, shared_redis: RedisServer) -> None:
    shelf = new_shelf(shared_redis, event_retention=60)
    shelf.look.xadd(shelf.keys.events, {"old": "1"}, id=f"{int((time.time() - 90) * 1000)}-0")
    shelf.look.xadd(shelf.keys.events, {"young": "1"}, id=f"{int((time.time() - 30) * 1000)}-0")
    await shelf.write()
    assert [next(iter(fields)) for _, fields in shelf.look.xrange(shelf.keys.events)] == [
        "young",
        "v",
    ]


async def test_an_error_in_the_middle_leaves_no_jti_so_that_the_repetition_mends_it(
    shelf: Shelf,
) -> None:
    """Redis rolls nothing back: the order of the writes is what saves the event."""
    shelf.look.set(shelf.keys.events, "not a stream")
    with pytest.raises(RevocationRefused, match="WRONGTYPE"):
        await shelf.write()
    assert shelf.look.exists(shelf.keys.jti(ISS, "j1", "s1", "alice")) == 0
    shelf.look.delete(shelf.keys.events)
    assert await shelf.write() == 1
    assert len(shelf.events()) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda keys, args: (keys, ["x", *args[1:]]),
        lambda keys, args: (keys, ["1.5", *args[1:]]),
        lambda keys, args: (keys, ["-1", *args[1:]]),
        lambda keys, args: (keys, [args[0], "0", *args[2:]]),
        lambda keys, args: (keys, [*args[:6], "2", *args[7:]]),
        lambda keys, args: (keys[:-1], args),
        lambda keys, args: ([*keys, "more"], args),
        lambda keys, args: (keys, args[:-1]),
        lambda keys, args: (keys, [*args[:7], "x", *args[8:]]),
        lambda keys, args: (keys, [*args[:8], "not json", *args[9:]]),
        lambda keys, args: (keys, args[:8]),
    ],
)
async def test_wrong_arguments_are_refused_before_the_first_write(
    change: Callable[[list[str], list[str]], tuple[list[str], list[str]]], shelf: Shelf
) -> None:
    count, *rest = [str(part) for part in shelf.store._commands.arguments(shelf.revocation())]
    keys, args = change(rest[: int(count)], rest[int(count) :])
    with pytest.raises(redis.ResponseError):
        shelf.look.eval(_SCRIPT, len(keys), *keys, *args)
    assert shelf.look.keys(f"*{shelf.app}*") == []


async def test_a_channel_that_is_denied_fails_nothing(
    new_shelf: NewShelf, redis_server: RedisServer
) -> None:
    """The channel is a hint; the stream is the truth."""
    with redis_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "mute", "on", ">pw", "~*", "resetchannels", "+@all")
    shelf = new_shelf(redis_server, url=redis_server.url.replace("redis://", "redis://mute:pw@"))
    assert await shelf.write() == NEW_MARKER
    assert len(shelf.events()) == 1


async def test_a_full_redis_is_our_outage_and_the_repetition_is_written(
    new_shelf: NewShelf, redis_server: RedisServer
) -> None:
    shelf = new_shelf(redis_server)
    shelf.look.config_set("maxmemory", "1")
    with pytest.raises(RedisUnwilling, match=r"^OOM$"):
        await shelf.write()
    shelf.look.config_set("maxmemory", "0")
    assert await shelf.write() == NEW_MARKER


async def test_a_replica_that_takes_no_writes_is_our_outage(
    new_shelf: NewShelf, redis_server: RedisServer
) -> None:
    shelf = new_shelf(redis_server)
    shelf.look.execute_command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(RedisUnwilling, match=r"^READONLY$"):
        await shelf.write()
    with pytest.raises(ReadOnlyError):
        await shelf.write_meta()
    shelf.look.execute_command("REPLICAOF", "NO", "ONE")
    assert await shelf.write() == NEW_MARKER


async def test_a_restart_of_redis_loses_no_acknowledged_write_and_needs_no_reconnect(
    new_shelf: NewShelf, redis_server: RedisServer
) -> None:
    """The first call after the restart succeeds: its sender would not come again."""
    shelf = new_shelf(redis_server)
    await shelf.write()
    await asyncio.to_thread(redis_server.stop)
    with pytest.raises(RedisAway):
        await shelf.write(sid="s2", once=None)
    await asyncio.to_thread(redis_server.start)
    assert await shelf.write(sid="s3", once=None) == NEW_MARKER
    assert [event.sid for event in shelf.events()] == ["s1", "s3"]


@pytest.mark.slow
async def test_a_redis_that_hangs_is_given_up_and_no_late_answer_is_misread(
    new_shelf: NewShelf, redis_server: RedisServer
) -> None:
    """A call that was given up takes its connection with it: the answer still on the way must
    never become the answer to another call."""
    shelf = new_shelf(redis_server)
    assert await shelf.write(sid="first", once=None) == NEW_MARKER
    redis_server.freeze()
    given_up = await asyncio.gather(
        *(shelf.write(sid=f"frozen{n}", once=None) for n in range(10)), return_exceptions=True
    )
    assert all(isinstance(one, RedisAway) for one in given_up)
    redis_server.thaw()
    once = Once("again", "s1", "alice", time.time() + 300)
    assert await shelf.write(once=once) == NEW_MARKER
    for _ in range(20):
        assert await shelf.write(once=once) == 0, "each call reads its own answer"


async def test_cancelled_calls_leave_no_answer_behind(shelf: Shelf) -> None:
    """Cancelled at any moment: the calls after them still read their own answers."""
    seen = Once("seen", "s1", "alice", time.time() + 300)
    await shelf.write(once=seen)
    for turns in range(60):
        task = asyncio.create_task(shelf.write(sid=f"c{turns}", once=None))
        for _ in range(turns % 12):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await shelf.write(once=seen) == 0
        assert await shelf.write(sid=f"n{turns}", once=None) == NEW_MARKER


async def test_meta_is_written_where_it_is_missing(shelf: Shelf) -> None:
    """And whoever asks learns that it was: a Redis that came back empty has none."""
    assert await shelf.write_meta() is True
    assert shelf.look.hgetall(shelf.keys.meta) == {"v": "1", "max_session_age": "3600"}
    assert await shelf.write_meta() is False
    shelf.look.delete(shelf.keys.meta)
    assert await shelf.write_meta() is True
    assert shelf.look.hget(shelf.keys.meta, "max_session_age") == "3600"


async def test_meta_that_differs_is_written_again_and_was_not_missing(shelf: Shelf) -> None:
    shelf.look.hset(shelf.keys.meta, mapping={"v": "1", "max_session_age": "60"})
    assert await shelf.write_meta() is False
    assert shelf.look.hget(shelf.keys.meta, "max_session_age") == "3600"


def test_the_cutoff_is_never_far_in_the_future() -> None:
    """A wrong clock somewhere can not lock a user out for weeks."""
    late = revocation("shop", since=NOW + 10**6, received_at=float(NOW), leeway=60)
    assert late.event.cutoff == NOW + 60


def test_a_revocation_must_name_whom_it_ends() -> None:
    with pytest.raises(ValueError, match="session"):
        revocation("shop", sid=None)
    with pytest.raises(ValueError, match="user"):
        revocation("shop", kind=EventKind.USER, sub=None)


def test_the_json_of_an_event_begins_where_the_script_puts_its_id() -> None:
    """The script splices the id in as the first member."""
    assert json.loads(revocation("shop").event.to_json())["v"] == 1
    assert revocation("shop").event.to_json().startswith('{"v"')
