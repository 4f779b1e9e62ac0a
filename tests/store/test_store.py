"""The script in a real Redis: atomic, once, and never lowering a marker."""

import asyncio
import json
import time
from collections.abc import Callable

import pytest
import redis
from redis.exceptions import ReadOnlyError

from app.revocation import MARKER_MARGIN_SECONDS, Once
from app.store.errors import RedisAway, RedisUnwilling, RevocationRefused
from app.store.store import NEW_MARKER, SCRIPT
from backchannel_logout import AppKeys, Event, EventKind
from tests.support.revocations import ISS, NOW, AppStore, revocation
from tests.support.servers.redis_server import RedisServer
from tests.support.store_fixtures import NewAppStore


async def test_a_revocation_is_marker_event_jti_and_message(app_store: AppStore) -> None:
    with app_store.look.pubsub() as feed:
        feed.subscribe(app_store.keys.feed)
        assert feed.get_message(timeout=5)
        assert await app_store.write() == NEW_MARKER
        message = feed.get_message(timeout=5)
    assert app_store.look.get(app_store.marker) == str(NOW)
    assert 3600 < app_store.look.ttl(app_store.marker) <= 3600 + MARKER_MARGIN_SECONDS
    once = app_store.keys.jti(ISS, "j1", "s1", "alice")
    assert app_store.look.get(once) == "1"
    assert 290 < app_store.look.ttl(once) <= 300
    (event,) = app_store.events()
    assert message is not None
    assert Event.from_json(message["data"]) == event
    assert (event.iss, event.sid, event.sub, event.cutoff) == (ISS, "s1", "alice", NOW)
    assert set(app_store.look.keys(f"*{app_store.app}*")) == {
        app_store.marker,
        once,
        app_store.keys.events,
    }


@pytest.mark.parametrize(
    "hostile", ['q"uo\\te', "new\nline", "\x00\x7f", "ünï ☃ \U0001f600", "%s{}"]
)
async def test_any_text_survives_stream_and_channel(hostile: str, app_store: AppStore) -> None:
    with app_store.look.pubsub() as feed:
        feed.subscribe(app_store.keys.feed)
        assert feed.get_message(timeout=5)
        await app_store.write(sid=hostile, sub=hostile, client_ids=(hostile,))
        message = feed.get_message(timeout=5)
    (event,) = app_store.events()
    assert (event.sid, event.sub, event.client_ids) == (hostile, hostile, (hostile,))
    assert message is not None
    assert Event.from_json(message["data"]) == event


async def test_a_repeated_message_changes_nothing(app_store: AppStore) -> None:
    assert await app_store.write() == NEW_MARKER
    app_store.look.delete(app_store.marker)
    assert await app_store.write() == 0
    assert app_store.look.exists(app_store.marker) == 0
    assert len(app_store.events()) == 1


async def test_a_colliding_jti_does_not_suppress_another_logout(app_store: AppStore) -> None:
    """LemonLDAP::NG's jti has eight characters."""
    await app_store.write()
    other = Once("j1", "s2", "bob", time.time() + 300)
    assert await app_store.write(sid="s2", sub="bob", once=other) == NEW_MARKER


async def test_the_jti_of_an_expired_token_is_not_kept(app_store: AppStore) -> None:
    assert await app_store.write(once=Once("j1", "s1", "alice", time.time() - 1)) == NEW_MARKER
    assert app_store.look.exists(app_store.keys.jti(ISS, "j1", "s1", "alice")) == 0


async def test_a_marker_is_never_lowered(app_store: AppStore) -> None:
    """Neither its cutoff nor its lifetime."""
    await app_store.write(once=None, max_session_age=7200)
    life = app_store.look.ttl(app_store.marker)
    await app_store.write(once=None, since=NOW - 100)
    assert app_store.look.get(app_store.marker) == str(NOW)
    assert app_store.look.ttl(app_store.marker) >= life - 5
    await app_store.write(once=None, since=NOW + 100, max_session_age=60)
    assert app_store.look.get(app_store.marker) == str(NOW + 100)
    assert app_store.look.ttl(app_store.marker) >= life - 5
    app_store.look.persist(app_store.marker)
    await app_store.write(once=None)
    assert app_store.look.ttl(app_store.marker) == -1
    assert len(app_store.events()) == 4, "readers are notified of each accepted revocation"


async def test_an_unreadable_marker_is_replaced(app_store: AppStore) -> None:
    app_store.look.set(app_store.marker, "rubbish")
    await app_store.write()
    assert app_store.look.get(app_store.marker) == str(NOW)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (EventKind.SESSION, lambda keys: keys.sid(ISS, "s1")),
        (EventKind.USER, lambda keys: keys.sub(ISS, "alice")),
        (EventKind.ALL, lambda keys: keys.all(ISS)),
    ],
)
async def test_each_kind_writes_one_marker(
    kind: EventKind, key: Callable[[AppKeys], str], app_store: AppStore
) -> None:
    await app_store.write(kind=kind, once=None)
    assert set(app_store.look.keys(f"*{app_store.app}*")) == {
        key(app_store.keys),
        app_store.keys.events,
    }
    (event,) = app_store.events()
    assert event.kind is kind
    assert (event.sid is None) == (kind is not EventKind.SESSION)


async def test_every_name_of_the_issuer_gets_a_marker_and_an_event(app_store: AppStore) -> None:
    names = (ISS, "https://alias.example", "https://other.example")
    await app_store.write(issuer_names=names)
    assert [app_store.look.get(app_store.keys.sid(name, "s1")) for name in names] == [str(NOW)] * 3
    assert [event.iss for event in app_store.events()] == list(names)


async def test_the_stream_is_trimmed_by_length(
    new_app_store: NewAppStore, shared_redis: RedisServer
) -> None:
    app_store = new_app_store(shared_redis, event_max_len=5)
    for n in range(12):
        await app_store.write(sid=f"s{n}", once=None)
    assert [event.sid for event in app_store.events()] == [f"s{n}" for n in range(7, 12)]


async def test_the_stream_is_trimmed_by_age(
    new_app_store: NewAppStore, shared_redis: RedisServer
) -> None:
    app_store = new_app_store(shared_redis, event_retention=60)
    app_store.look.xadd(
        app_store.keys.events, {"old": "1"}, id=f"{int((time.time() - 90) * 1000)}-0"
    )
    app_store.look.xadd(
        app_store.keys.events, {"young": "1"}, id=f"{int((time.time() - 30) * 1000)}-0"
    )
    await app_store.write()
    assert [next(iter(fields)) for _, fields in app_store.look.xrange(app_store.keys.events)] == [
        "young",
        "v",
    ]


async def test_after_an_error_in_the_middle_a_retry_completes_the_write(
    app_store: AppStore,
) -> None:
    """Redis does not roll back: the order of the writes saves the event."""
    app_store.look.set(app_store.keys.events, "not a stream")
    with pytest.raises(RevocationRefused, match="WRONGTYPE"):
        await app_store.write()
    assert app_store.look.exists(app_store.keys.jti(ISS, "j1", "s1", "alice")) == 0
    app_store.look.delete(app_store.keys.events)
    assert await app_store.write() == 1
    assert len(app_store.events()) == 1


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
    change: Callable[[list[str], list[str]], tuple[list[str], list[str]]], app_store: AppStore
) -> None:
    count, *rest = [
        str(part) for part in app_store.store._commands.arguments(app_store.revocation())
    ]
    keys, args = change(rest[: int(count)], rest[int(count) :])
    with pytest.raises(redis.ResponseError):
        app_store.look.eval(SCRIPT, len(keys), *keys, *args)
    assert app_store.look.keys(f"*{app_store.app}*") == []


async def test_a_denied_channel_does_not_fail_the_write(
    new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    """The channel is a hint; the stream is the truth."""
    with redis_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "mute", "on", ">pw", "~*", "resetchannels", "+@all")
    app_store = new_app_store(
        redis_server, url=redis_server.url.replace("redis://", "redis://mute:pw@")
    )
    assert await app_store.write() == NEW_MARKER
    assert len(app_store.events()) == 1


async def test_a_full_redis_is_our_outage_and_a_retry_is_written(
    new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    app_store = new_app_store(redis_server)
    app_store.look.config_set("maxmemory", "1")
    with pytest.raises(RedisUnwilling, match=r"^OOM$"):
        await app_store.write()
    app_store.look.config_set("maxmemory", "0")
    assert await app_store.write() == NEW_MARKER


async def test_a_read_only_replica_is_our_outage(
    new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    app_store = new_app_store(redis_server)
    app_store.look.execute_command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(RedisUnwilling, match=r"^READONLY$"):
        await app_store.write()
    with pytest.raises(ReadOnlyError):
        await app_store.write_meta()
    app_store.look.execute_command("REPLICAOF", "NO", "ONE")
    assert await app_store.write() == NEW_MARKER


async def test_a_restart_of_redis_loses_no_acknowledged_write_and_needs_no_reconnect(
    new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    """The first call after the restart succeeds: its sender would not retry."""
    app_store = new_app_store(redis_server)
    await app_store.write()
    await asyncio.to_thread(redis_server.stop)
    with pytest.raises(RedisAway):
        await app_store.write(sid="s2", once=None)
    await asyncio.to_thread(redis_server.start)
    assert await app_store.write(sid="s3", once=None) == NEW_MARKER
    assert [event.sid for event in app_store.events()] == ["s1", "s3"]


@pytest.mark.slow
async def test_a_hanging_redis_times_out_and_no_late_reply_is_misread(
    new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    """A call that times out closes its connection: a late reply must never be read by another
    call."""
    app_store = new_app_store(redis_server)
    assert await app_store.write(sid="first", once=None) == NEW_MARKER
    redis_server.freeze()
    given_up = await asyncio.gather(
        *(app_store.write(sid=f"frozen{n}", once=None) for n in range(10)), return_exceptions=True
    )
    assert all(isinstance(error, RedisAway) for error in given_up)
    redis_server.thaw()
    once = Once("again", "s1", "alice", time.time() + 300)
    assert await app_store.write(once=once) == NEW_MARKER
    for _ in range(20):
        assert await app_store.write(once=once) == 0, "each call reads its own answer"


async def test_cancelled_calls_leave_no_reply_behind(app_store: AppStore) -> None:
    """Cancelled at any moment: later calls still read their own replies."""
    seen = Once("seen", "s1", "alice", time.time() + 300)
    await app_store.write(once=seen)
    for turns in range(60):
        task = asyncio.create_task(app_store.write(sid=f"c{turns}", once=None))
        for _ in range(turns % 12):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await app_store.write(once=seen) == 0
        assert await app_store.write(sid=f"n{turns}", once=None) == NEW_MARKER


async def test_missing_meta_is_written(app_store: AppStore) -> None:
    """And reported as missing: a Redis that came back empty has none."""
    assert await app_store.write_meta() is True
    assert app_store.look.hgetall(app_store.keys.meta) == {"v": "1", "max_session_age": "3600"}
    assert await app_store.write_meta() is False
    app_store.look.delete(app_store.keys.meta)
    assert await app_store.write_meta() is True
    assert app_store.look.hget(app_store.keys.meta, "max_session_age") == "3600"


async def test_differing_meta_is_rewritten_and_not_reported_as_missing(app_store: AppStore) -> None:
    app_store.look.hset(app_store.keys.meta, mapping={"v": "0", "max_session_age": "3600"})
    assert await app_store.write_meta() is False
    assert app_store.look.hget(app_store.keys.meta, "v") == "1"


def test_the_cutoff_is_never_far_in_the_future() -> None:
    """A wrong clock cannot lock a user out for weeks."""
    late = revocation("shop", since=NOW + 10**6, received_at=float(NOW), leeway=60)
    assert late.event.cutoff == NOW + 60


def test_a_revocation_must_name_its_session_or_user() -> None:
    with pytest.raises(ValueError, match="session"):
        revocation("shop", sid=None)
    with pytest.raises(ValueError, match="user"):
        revocation("shop", kind=EventKind.USER, sub=None)


def test_the_json_of_an_event_begins_with_a_brace_for_the_id() -> None:
    """The script inserts the id as the first member."""
    assert json.loads(revocation("shop").event.to_json())["v"] == 1
    assert revocation("shop").event.to_json().startswith('{"v"')
