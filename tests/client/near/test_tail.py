"""The near cache of both guards, kept true by the app's stream, on a real Redis.

Outages of Redis are in `test_tail_outages`, permissions in `test_tail_rights`, threads and forks in
`test_tail_threads`.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest
import redis
import redis.asyncio

from backchannel_logout import EventKind, GuardMisconfigured, Session
from backchannel_logout.contract.readers import Reader, ReaderKind
from backchannel_logout.contract.session import MEMBER
from backchannel_logout.near import event_reader, reports
from backchannel_logout.near.tail import MAX_BLOCKING_READERS
from tests.client.conftest import NewWarmGuard
from tests.support.apps.guards import ALICE, NEIGHBOUR, WarmGuard
from tests.support.apps.listening import until
from tests.support.clock import Clock
from tests.support.revocations import ISS, NOW, AppStore
from tests.support.servers.redis_server import RedisServer


@pytest.fixture
def guard(
    kind: str, new_warm_guard: NewWarmGuard, app_store: AppStore, shared_redis: RedisServer
) -> WarmGuard:
    return new_warm_guard(kind, shared_redis.url, app_store.app)


def times_run(client: redis.Redis, *commands: str) -> int:
    """The number of calls of these commands since the last ``CONFIG RESETSTAT``."""
    stats: Any = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"] for command in commands)


# -- a check without a query ---------------------------------------------------------------


async def test_a_warm_check_sends_nothing_to_redis(guard: WarmGuard, app_store: AppStore) -> None:
    await guard.warm(ALICE, NEIGHBOUR)
    app_store.look.config_resetstat()
    for _ in range(100):
        assert not await guard.is_revoked(ALICE)
        assert await guard.which_revoked(ALICE, NEIGHBOUR) == []
    assert times_run(app_store.look, "mget", "get", "hget|mget") == 0
    assert await guard.which_revoked(ALICE, fresh=True) == []
    assert times_run(app_store.look, "mget") == 1, "the query is counted"


async def test_a_warm_check_does_not_give_way_to_another_task(
    new_warm_guard: NewWarmGuard, app_store: AppStore, shared_redis: RedisServer
) -> None:
    """It completes in its first step, without waiting."""
    guard = new_warm_guard("async", shared_redis.url, app_store.app)
    await guard.warm(ALICE)
    login = {"iss": ISS, "sid": "s1", "sub": "alice", "login_at": NOW - 10}
    for session in (ALICE, login, {"cart": 1, MEMBER: login}, {"cart": 1, **login}):
        check = guard.guard.is_revoked(session)
        with pytest.raises(StopIteration) as done:
            check.send(None)
        assert done.value.value is False


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decode_responses", [True, False])
async def test_a_client_of_the_apps_own_may_speak_as_it_likes(
    protocol: int, decode_responses: bool, new_warm_guard: NewWarmGuard, app_store: AppStore,
    shared_redis: RedisServer,
) -> None:  # fmt: skip
    given = redis.asyncio.Redis.from_url(
        shared_redis.url, protocol=protocol, decode_responses=decode_responses
    )
    guard = new_warm_guard("async", given, app_store.app)
    await guard.warm(ALICE, NEIGHBOUR)
    await app_store.write()
    await guard.sees_the_end_of(ALICE)
    assert guard.is_warm(NEIGHBOUR)
    before = guard.cache.fence()
    app_store.look.xadd(app_store.keys.events, {"v": "1", "kind": b"\xff"})
    await until(lambda: guard.cache.fence() != before, "what is no text empties the cache")
    await guard.warm(NEIGHBOUR)
    await given.aclose()


# -- what a logout ends --------------------------------------------------------------------

NEIGHBOURS = {
    EventKind.SESSION: Session(ISS, NOW - 10, sid="s2", sub="alice"),
    EventKind.USER: Session(ISS, NOW - 10, sid="s2", sub="bob"),
    EventKind.ALL: Session("https://other.example", NOW - 10, sid="s1", sub="alice"),
}


@pytest.mark.parametrize("ends", list(EventKind))
async def test_a_logout_is_known_within_a_second_and_the_neighbour_lives(
    ends: EventKind, guard: WarmGuard, app_store: AppStore
) -> None:
    neighbour = NEIGHBOURS[ends]
    await guard.warm(ALICE, neighbour)
    await app_store.write(kind=ends)
    await guard.sees_the_end_of(ALICE)
    assert not await guard.is_revoked(neighbour)
    if ends is not EventKind.ALL:
        assert guard.is_warm(neighbour), "it was not even asked for"


async def test_a_login_after_the_logout_is_kept_and_the_one_before_is_not(
    guard: WarmGuard, app_store: AppStore
) -> None:
    """With the same session id."""
    later = Session(ISS, NOW + 1, sid="s1", sub="alice")
    await guard.warm(ALICE, later)
    await app_store.write()
    await guard.sees_the_end_of(ALICE)
    await guard.warm(later)
    assert await guard.which_revoked(ALICE, later) == [ALICE]


async def test_a_login_by_a_code_from_before_the_logout_is_never_kept(
    guard: WarmGuard, app_store: AppStore
) -> None:
    """Next to one of the same second whose user has signed in again."""
    anew, of_the_code = (
        Session(ISS, NOW + 1, sid="s1", sub="alice", auth_time=NOW + when) for when in (1, -600)
    )
    await guard.warm(anew, of_the_code)
    await app_store.write()
    await guard.sees_the_end_of(of_the_code)
    await guard.warm(anew)
    assert not guard.is_warm(of_the_code)
    assert await guard.which_revoked(anew, of_the_code) == [of_the_code]


async def test_a_burst_of_logouts_ends_each_session(
    guard: WarmGuard, app_store: AppStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than one read returns."""
    monkeypatch.setattr(event_reader, "MAX_EVENTS", 10)
    doomed = [Session(ISS, NOW - 10, sid=f"s{n}", sub="alice") for n in range(200)]
    bob = Session(ISS, NOW - 10, sid="bob's", sub="bob")
    await guard.warm(*doomed, bob)
    answers = await app_store.store.write([app_store.numbered(n) for n in range(len(doomed))])
    assert all(isinstance(answer, int) for answer in answers)
    await until(lambda: not any(map(guard.is_warm, doomed)), "none of them is taken for alive")
    assert guard.is_warm(bob)
    assert await guard.which_revoked(*doomed, bob) == doomed


# -- unreadable and missing entries ---------------------------------------------------------

GOOD = {"v": "1", "kind": "session", "iss": ISS, "sid": "s9", "cutoff": str(NOW), "app": "x",
        "source": "test", "received_at": str(NOW)}  # fmt: skip

UNREADABLE: dict[str, dict[Any, Any]] = {
    "an unknown kind": GOOD | {"kind": "device"},
    "an unknown version": {"v": "2", "whom": "s1"},
    "without a version": {"kind": "session"},
    "without whom it ends": {name: value for name, value in GOOD.items() if name != "sid"},
    "a cutoff that is no number": GOOD | {"cutoff": "soon"},
    "not UTF-8": GOOD | {"sid": b"\xff"},
}


@pytest.mark.parametrize("fields", UNREADABLE.values(), ids=UNREADABLE)
async def test_an_unreadable_entry_clears_the_cache(
    fields: dict[Any, Any], guard: WarmGuard, app_store: AppStore
) -> None:
    """It may have ended any session. Then the tail reads on."""
    await guard.warm(ALICE)
    app_store.look.set(app_store.marker, NOW)
    app_store.look.xadd(app_store.keys.events, fields)
    await guard.sees_the_end_of(ALICE)
    await guard.warm(NEIGHBOUR)
    await app_store.write(sid="s2", sub="bob", once=None)
    await guard.sees_the_end_of(NEIGHBOUR)


async def test_a_readable_entry_drops_no_other_session(
    guard: WarmGuard, app_store: AppStore
) -> None:
    """The counterpart of the test above: an ordinary entry clears nothing."""
    await guard.warm(ALICE)
    before = guard.cache.fence()
    app_store.look.xadd(app_store.keys.events, GOOD)
    await until(lambda: guard.cache.fence() != before, "the entry was read")
    assert guard.is_warm(ALICE)


async def test_entries_trimmed_before_they_were_read_clear_the_cache(
    guard: WarmGuard, app_store: AppStore
) -> None:
    """The logout's own entry is gone when the next one is read."""
    await guard.warm(ALICE)
    with app_store.look.pipeline() as at_once:
        at_once.set(app_store.marker, NOW)
        at_once.xadd(app_store.keys.events, GOOD | {"sid": "s1"})
        at_once.xadd(app_store.keys.events, GOOD)
        at_once.xtrim(app_store.keys.events, maxlen=1, approximate=False)
        at_once.execute()
    await guard.sees_the_end_of(ALICE)


# -- how old a session may be --------------------------------------------------------------


async def test_a_shorter_max_session_age_ends_cached_sessions(
    guard: WarmGuard, app_store: AppStore
) -> None:
    await guard.warm(ALICE)
    app_store.look.hset(app_store.keys.meta, "max_session_age", "5")
    await guard.sees_the_end_of(ALICE)


async def test_a_shorter_max_session_age_ends_cached_sessions_whichever_part_reads_it_first(
    guard: WarmGuard, app_store: AppStore
) -> None:
    """In a Cluster each query reads it, before the tail does."""
    await guard.warm(ALICE)
    app_store.look.hset(app_store.keys.meta, "max_session_age", "5")
    guard.guard._checker.meta.read(b"5", None, None)
    await guard.sees_the_end_of(ALICE)


async def test_an_issuer_that_is_no_longer_served_clears_the_cache(
    guard: WarmGuard, app_store: AppStore
) -> None:
    await guard.warm(ALICE)
    app_store.look.hset(app_store.keys.meta, "issuers", '["https://other.example"]')
    await until(lambda: not guard.is_warm(ALICE), "nothing is kept")
    with pytest.raises(GuardMisconfigured, match=r"other\.example"):
        await guard.is_revoked(ALICE)


async def test_a_guard_that_keeps_answers_reports_whether_its_sessions_have_a_sid(
    guard: WarmGuard, app_store: AppStore
) -> None:
    without = Session(ISS, NOW - 10, sub="carol")
    await guard.warm(without)

    def reported() -> list[Mapping[str, bool]]:
        found: Any = app_store.look.hgetall(app_store.keys.readers)
        readers = [Reader.from_json(name, text) for name, text in found.items()]
        return [one.sid for one in readers if one is not None]

    await until(lambda: {ISS: False} in reported(), "the report shows that they have none")


@pytest.mark.slow
async def test_a_session_ends_with_its_age_while_it_is_kept(
    kind: str, new_warm_guard: NewWarmGuard, app_store: AppStore, shared_redis: RedisServer
) -> None:
    # Its time passes only when it is warm, however slow the machine is.
    clock = Clock(NOW)
    guard = new_warm_guard(kind, shared_redis.url, app_store.app, clock=clock)
    old = Session(ISS, NOW + 2 - 3600, sid="s1", sub="alice")
    await guard.warm(old)
    clock.now += 3
    await guard.sees_the_end_of(old)


async def test_a_missing_meta_is_a_mistake_and_no_session_is_alive(
    guard: WarmGuard, app_store: AppStore
) -> None:
    """Not after a minute, but as soon as the tail sees it."""
    await guard.warm(ALICE)
    app_store.look.delete(app_store.keys.meta)
    await until(lambda: not guard.is_warm(ALICE), "nothing is kept")
    with pytest.raises(GuardMisconfigured, match="no receiver has written"):
        await guard.is_revoked(ALICE)
    await app_store.write_meta()
    await until_answered(guard)
    await guard.warm(ALICE)


async def until_answered(guard: WarmGuard) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            assert not await guard.is_revoked(ALICE)
            return
        except GuardMisconfigured:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


# -- the size of the cache, and the number of readers --------------------------------------


async def test_the_least_recently_used_goes_first(
    kind: str, new_warm_guard: NewWarmGuard, app_store: AppStore, shared_redis: RedisServer
) -> None:
    guard = new_warm_guard(kind, shared_redis.url, app_store.app, near_cache=2)
    third = Session(ISS, NOW - 10, sid="s3", sub="carol")
    await guard.warm(ALICE, NEIGHBOUR)
    assert not await guard.is_revoked(ALICE)
    assert not await guard.is_revoked(third)
    assert [guard.is_warm(one) for one in (ALICE, NEIGHBOUR, third)] == [True, False, True]
    assert guard.cache.size == 2


def reader(app_store: AppStore) -> Reader | None:
    """The only one that reports."""
    found: Any = app_store.look.hgetall(app_store.keys.readers)
    if not found:
        return None
    [(name, text)] = found.items()
    return Reader.from_json(name, text)


@pytest.mark.slow
async def test_a_guard_reports_how_far_it_has_read_until_it_is_closed(
    guard: WarmGuard, app_store: AppStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "_PAUSE", 0.05)
    await guard.warm(ALICE)
    for n in range(2):
        await app_store.store.write([app_store.numbered(n, sub="nobody")])
        newest = app_store.events()[-1].id
        await until(
            lambda end=newest: (one := reader(app_store)) and one.position == end, "reported"
        )
        found = reader(app_store)
        assert found is not None
        assert found.kind is ReaderKind.CACHE
    assert app_store.look.ttl(app_store.keys.readers) > 86400
    await guard.aclose()
    left = app_store.look.hgetall(app_store.keys.readers)
    assert [Reader.from_json(*one).kind for one in left.items()] == [ReaderKind.ENDED]  # type: ignore[union-attr]


async def test_without_a_near_cache_the_guard_reads_no_stream_and_reports(
    kind: str, new_warm_guard: NewWarmGuard, app_store: AppStore, shared_redis: RedisServer
) -> None:
    guard = new_warm_guard(kind, shared_redis.url, app_store.app, near_cache=0)
    app_store.look.config_resetstat()
    for _ in range(5):
        assert not await guard.is_revoked(ALICE)
    assert times_run(app_store.look, "mget") == 5
    assert times_run(app_store.look, "xread", "xrevrange") == 0
    found = reader(app_store)
    assert found is not None
    assert (found.kind, found.position) == (ReaderKind.ASKS, None)
    await app_store.write()
    assert await guard.is_revoked(ALICE)


@pytest.mark.slow
async def test_one_of_many_readers_polls_and_still_learns_of_logouts(
    guard: WarmGuard, app_store: AppStore
) -> None:
    """A logout must wake every blocked reader."""

    def waiting() -> int:
        clients: Any = app_store.look.info("clients")
        return int(clients["blocked_clients"])

    await guard.warm(ALICE, NEIGHBOUR)
    await until(waiting, "it waits, as one of a few")
    others = {
        f"other-{n}": Reader(name="", kind=ReaderKind.CACHE, at=time.time()).to_json()
        for n in range(MAX_BLOCKING_READERS)
    }
    app_store.look.hset(app_store.keys.readers, mapping=others)
    await until(lambda: not waiting(), "it has seen how many there are")
    await asyncio.sleep(0.6)  # longer than its pause between two reads
    for _ in range(20):
        assert not waiting()
        await asyncio.sleep(0.02)
    await app_store.write()
    await guard.sees_the_end_of(ALICE)
    assert guard.is_warm(NEIGHBOUR)
