"""The near cache during and after an outage of Redis: it serves for `max_stale`."""

import asyncio
import shutil
import signal
import subprocess
import sys
import time

import pytest

from backchannel_logout import RevocationUnknown, Session
from backchannel_logout.contract.readers import Reader, ReaderKind
from backchannel_logout.near.tail import MAX_BLOCKING_READERS
from tests.client.conftest import NewAppStore, NewWarmGuard
from tests.support.apps.guards import ALICE, NEIGHBOUR, WITHIN, WarmGuard, patiently
from tests.support.apps.listening import until
from tests.support.revocations import NOW, AppStore
from tests.support.servers.redis_server import RedisServer, free_port

pytestmark = pytest.mark.slow


@pytest.fixture
async def own(new_app_store: NewAppStore, redis_server: RedisServer) -> AppStore:
    """An app on the test's own server."""
    return await new_app_store(redis_server)


async def forgets(guard: WarmGuard, before: int) -> None:
    """Wait until the guard has cleared its cache since ``before``."""
    await until(lambda: guard.cache.fence() != before, "the cache was emptied")
    assert guard.cache.size == 0


async def answers_again(guard: WarmGuard, session: Session = NEIGHBOUR) -> None:
    deadline = time.monotonic() + WITHIN
    while True:
        try:
            assert not await guard.is_revoked(session)
            return
        except RevocationUnknown:
            assert time.monotonic() < deadline, "the guard does not answer again"
            await asyncio.sleep(0.02)


async def test_a_redis_that_was_emptied_empties_the_cache(
    kind: str, new_warm_guard: NewWarmGuard, own: AppStore, redis_server: RedisServer
) -> None:
    guard = new_warm_guard(kind, redis_server.url, own.app)
    await guard.warm(ALICE, NEIGHBOUR)
    with own.look.pipeline() as at_once:  # the meta stays
        at_once.flushall()
        at_once.hset(own.keys.meta, mapping={"v": "1", "max_session_age": "3600"})
        at_once.set(own.marker, NOW)
        at_once.execute()
    await guard.sees_the_end_of(ALICE)
    await guard.warm(NEIGHBOUR)
    await own.write(sid="s2", sub="bob")
    await guard.sees_the_end_of(NEIGHBOUR)


@pytest.mark.parametrize("data", ["kept", "lost"])
async def test_after_a_restart_every_session_is_queried_again(
    data: str, kind: str, new_warm_guard: NewWarmGuard, own: AppStore, redis_server: RedisServer
) -> None:
    """Whether the data returned or not, a session that was ended meanwhile is dead."""
    guard = new_warm_guard(kind, redis_server.url, own.app, max_stale=60)
    await guard.warm(ALICE, NEIGHBOUR)
    before = guard.cache.fence()
    await asyncio.to_thread(redis_server.stop, signal.SIGKILL if data == "lost" else signal.SIGTERM)
    assert not await guard.is_revoked(ALICE), "it is known from before"
    if data == "lost":
        shutil.rmtree(redis_server.directory)
    await asyncio.to_thread(redis_server.start)
    await until(own.look.ping, "it answers")
    own.look.set(own.marker, NOW)
    await own.write_meta()
    await guard.sees_the_end_of(ALICE)
    assert guard.cache.fence() != before
    await guard.warm(NEIGHBOUR)


async def test_a_frozen_redis_is_not_felt_for_max_stale_and_then_it_is_an_outage(
    kind: str, new_warm_guard: NewWarmGuard, own: AppStore, redis_server: RedisServer
) -> None:
    # `max_stale` is longer than a busy machine pauses; `timeout` is not.
    deny, allow = (
        new_warm_guard(kind, redis_server.url, own.app, max_stale=6, timeout=0.5, on_outage=mode)
        for mode in ("deny", "allow")
    )
    await patiently(lambda: deny.warm(ALICE), RevocationUnknown)
    await allow.warm(ALICE)
    redis_server.freeze()
    for guard in (deny, allow):
        assert guard.is_warm(ALICE)
        assert not await guard.is_revoked(ALICE)
        with pytest.raises(RevocationUnknown):
            await deny.is_revoked(NEIGHBOUR)
    await until(lambda: not (deny.is_warm(ALICE) or allow.is_warm(ALICE)), "max_stale is over")
    with pytest.raises(RevocationUnknown):
        await deny.is_revoked(ALICE)
    assert not await allow.is_revoked(ALICE)
    assert not allow.is_warm(ALICE), "an outage's answer is not kept"
    redis_server.thaw()
    for guard in (deny, allow):
        await answers_again(guard, ALICE)
        await patiently(lambda guard=guard: guard.warm(ALICE), RevocationUnknown)
    await own.write()
    for guard in (deny, allow):
        await patiently(lambda guard=guard: guard.sees_the_end_of(ALICE), RevocationUnknown)


# -- the connection alone ------------------------------------------------------------------


def cut(app_store: AppStore) -> None:
    """Close every connection except this one."""
    app_store.look.client_kill_filter(_type="normal", skipme=True)


@pytest.mark.parametrize(
    "readers", [0, MAX_BLOCKING_READERS + 1], ids=["waiting", "between two reads"]
)
async def test_a_connection_that_was_lost_empties_the_cache(
    readers: int, kind: str, new_warm_guard: NewWarmGuard, own: AppStore, redis_server: RedisServer
) -> None:
    """The server may be another one at the same address, with a newer entry: nothing else reveals a
    failover to a replica that was behind."""
    note = Reader(name="", kind=ReaderKind.CACHE, at=time.time()).to_json()
    if readers:
        own.look.hset(own.keys.readers, mapping={f"other-{n}": note for n in range(readers)})
    guard = new_warm_guard(kind, redis_server.url, own.app)
    await guard.warm(ALICE, NEIGHBOUR)
    before = guard.cache.fence()
    own.look.set(own.marker, NOW)  # without an event
    cut(own)
    await forgets(guard, before)
    await guard.sees_the_end_of(ALICE)
    await guard.warm(NEIGHBOUR)


async def test_no_check_fails_when_the_tail_reconnects(
    new_warm_guard: NewWarmGuard, own: AppStore, redis_server: RedisServer
) -> None:
    """All of the guard's connections are then replaced, in the middle of a burst."""
    guard = new_warm_guard("async", redis_server.url, own.app)
    await guard.warm(ALICE)
    reconnects, done = 0, asyncio.Event()

    async def ask() -> int:
        n = 0
        while not done.is_set():
            assert await guard.which_revoked(ALICE, fresh=True) == []
            n += 1
        return n

    async with asyncio.TaskGroup() as tasks:
        askers = [tasks.create_task(ask()) for _ in range(20)]
        while reconnects < 4:
            before = guard.cache.fence()
            tails = [one for one in own.look.client_list() if "b" in one["flags"]]
            for one in tails:
                own.look.client_kill_filter(_id=one["id"])
            if tails:
                await until(lambda now=before: guard.cache.fence() != now, "it connects anew")
                reconnects += 1
            await asyncio.sleep(0.02)
        done.set()
    assert all(asker.result() > 10 for asker in askers)


# -- the end -------------------------------------------------------------------------------


async def test_closing_a_guard_ends_soon_while_redis_hangs(
    kind: str, new_warm_guard: NewWarmGuard, own: AppStore, redis_server: RedisServer
) -> None:
    guard = new_warm_guard(kind, redis_server.url, own.app, timeout=0.25)
    await patiently(lambda: guard.warm(ALICE), RevocationUnknown)
    redis_server.freeze()
    async with asyncio.timeout(WITHIN):
        await guard.aclose()


async def test_closing_a_guard_ends_soon_while_there_is_no_redis(
    kind: str, new_warm_guard: NewWarmGuard
) -> None:
    guard = new_warm_guard(kind, f"redis://127.0.0.1:{free_port()}/0", "shop", timeout=0.25)
    with pytest.raises(RevocationUnknown):
        await guard.is_revoked(ALICE)
    async with asyncio.timeout(WITHIN):
        await guard.aclose()


NEVER_CLOSED = """
import asyncio, sys, time
from backchannel_logout import AsyncSessionGuard, RevocationUnknown, Session, SessionGuard
from tests.support.revocations import ISS, NOW

kind, url, app = sys.argv[1:]
one = Session(ISS, NOW - 10, sid="s1", sub="alice")
made = AsyncSessionGuard if kind == "async" else SessionGuard
guard = made(url, app=app, near_cache=True, clock=lambda: NOW)

async def main():
    while not guard._near.cache.alive(one):
        try:
            assert not (await guard.is_revoked(one) if kind == "async" else guard.is_revoked(one))
        except RevocationUnknown:  # the machine paused for longer than the time limit
            continue
        await asyncio.sleep(0.01)
    print("warm", flush=True)
    await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
print("done")
"""


@pytest.mark.parametrize("redis", ["well", "frozen"])
async def test_a_process_exits_although_its_guard_was_never_closed(
    redis: str, kind: str, own: AppStore, redis_server: RedisServer
) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NEVER_CLOSED, kind, redis_server.url, own.app,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert program.stdout is not None
    assert await asyncio.wait_for(program.stdout.readline(), 60) == b"warm\n"
    if redis == "frozen":
        redis_server.freeze()
    output, _ = await asyncio.wait_for(program.communicate(b"\n"), 60)
    assert (program.returncode, output) == (0, b"done\n")


LOOPS = """
import asyncio, sys
from backchannel_logout import AsyncSessionGuard, Session
from tests.support.revocations import ISS, NOW

url, app, near_cache = sys.argv[1:]
guard = AsyncSessionGuard(url, app=app, near_cache=int(near_cache), clock=lambda: NOW, timeout=30)

async def use(n):
    burst = [Session(ISS, NOW - 10, sid=f"{n}-{m}") for m in range(100)]
    assert not any(await asyncio.gather(*map(guard.is_revoked, burst)))
    assert not guard.next_news.is_set()
    one = Session(ISS, NOW - 10, sid=str(n), sub="alice")
    assert not await guard.is_revoked(one)
    while guard._near and not guard._near.cache.alive(one):
        assert not await guard.is_revoked(one)
        await asyncio.sleep(0.01)

for n in range(3):
    asyncio.run(use(n))
asyncio.run(guard.aclose())
print("done")
"""


@pytest.mark.parametrize("near_cache", ["0", "1000"])
async def test_a_guard_can_be_used_in_one_event_loop_after_another(
    near_cache: str, app_store: AppStore, shared_redis: RedisServer
) -> None:
    """As in scripts and tests of apps: the connections of the previous loop are unusable."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LOOPS, shared_redis.url, app_store.app, near_cache,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(program.communicate(), 60)
    assert (program.returncode, output) == (0, b"done\n")
