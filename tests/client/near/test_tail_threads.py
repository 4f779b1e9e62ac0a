"""The near cache of the guard for threads: its own thread, concurrent checks, and forks."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from backchannel_logout import Session, SessionGuard
from backchannel_logout.near.thread import ThreadedNearCache
from backchannel_logout.redis import connection
from tests.client.conftest import NewAppStore, NewWarmGuard
from tests.support.apps.guards import ALICE, NEIGHBOUR
from tests.support.apps.listening import until
from tests.support.revocations import ISS, NOW, AppStore
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow


def tails() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "backchannel-logout"]


def test_a_client_object_is_refused_for_a_near_cache() -> None:
    """The event loop of another thread cannot use it."""
    client = redis.Redis()
    with pytest.raises(ValueError, match="URL"):
        SessionGuard(client, app="shop", near_cache=True)
    SessionGuard(client, app="shop").close()


async def test_the_thread_starts_with_the_first_check_and_ends_with_the_guard(
    new_warm_guard: NewWarmGuard, app_store: AppStore, shared_redis: RedisServer
) -> None:
    """Workers are forked between the two."""
    before = tails()
    guard = new_warm_guard("sync", shared_redis.url, app_store.app)
    assert tails() == before
    await guard.warm(ALICE)
    assert len(tails()) == len(before) + 1
    await guard.aclose()
    assert tails() == before
    assert not await guard.is_revoked(NEIGHBOUR), "the next check starts another one"
    await guard.warm(ALICE)
    await guard.aclose()
    assert tails() == before


async def test_no_thread_is_left_behind_by_a_guard_that_is_closed_at_once(
    app_store: AppStore, shared_redis: RedisServer
) -> None:
    """Just after the thread has started."""
    before = tails()
    for n in range(30):
        guard = SessionGuard(
            shared_redis.url, app=app_store.app, near_cache=True, clock=lambda: NOW
        )
        near = guard._near
        assert isinstance(near, ThreadedNearCache)
        near.start()
        if n % 3:
            await asyncio.sleep(n / 3000)
        guard.close()
    await until(lambda: tails() == before, "every thread has ended")


async def test_threads_ask_while_logouts_stream_in(
    new_warm_guard: NewWarmGuard, app_store: AppStore, shared_redis: RedisServer
) -> None:
    """No exception, and a session that is dead for one thread is dead for all within a second."""
    guard = new_warm_guard("sync", shared_redis.url, app_store.app, near_cache=150)
    doomed = [Session(ISS, NOW - 10, sid=f"s{n}", sub="alice") for n in range(100)]
    living = [Session(ISS, NOW - 10, sid=f"l{n}", sub=f"u{n}") for n in range(100)]
    done = threading.Event()

    def ask(turn: int) -> int:
        n = turn
        while not done.is_set():
            assert not guard.guard.is_revoked(living[n % 100])
            guard.guard.is_revoked(doomed[n % 100])
            n += 7
        return n

    with ThreadPoolExecutor(8) as threads:
        askers = [threads.submit(ask, n) for n in range(8)]
        try:
            for n in range(len(doomed)):
                await app_store.store.write([app_store.numbered(n)])
                await asyncio.sleep(0.002)
            await until(lambda: not any(map(guard.is_warm, doomed)), "all of them are dropped")
            assert await guard.which_revoked(*doomed, *living) == doomed
            assert not any(map(guard.is_warm, doomed)), "no thread brings one back"
        finally:
            done.set()
    assert all(asker.result() > 7 for asker in askers)
    assert 0 < guard.cache.size <= 150


def test_a_primary_that_moves_again_and_again_uses_up_no_connections(
    shared_redis: RedisServer,
) -> None:
    """The new objects replace the old ones."""
    client = connection.connect(shared_redis.url, timeout=1.0, max_connections=3)
    for _ in range(10):
        client.get("x")
        connection.renew(client)
    connection.close(client)


FORKING = """
import os, sys, threading, time
from backchannel_logout import Session, SessionGuard
from tests.support.revocations import ISS, NOW

url, app, forked = sys.argv[1:]
ALICE = Session(ISS, NOW - 10, sid="s1", sub="alice")
NEIGHBOUR = Session(ISS, NOW - 10, sid="s2", sub="bob")
guard = SessionGuard(url, app=app, near_cache=True, clock=lambda: NOW, timeout=30)

def warm():
    while not (guard._near.cache.alive(ALICE) and guard._near.cache.alive(NEIGHBOUR)):
        assert guard.which_revoked([ALICE, NEIGHBOUR]) == []
        time.sleep(0.01)

def ask():
    while True:
        guard.which_revoked([NEIGHBOUR], fresh=True)
        guard._near.cache.clear()

if forked != "before the first check":
    warm()
if forked == "while threads ask":
    for _ in range(4):
        threading.Thread(target=ask, daemon=True).start()
    time.sleep(0.1)
parent = os.getpid()
for n in range(2):
    if os.fork() == 0:
        break
if os.getpid() != parent:
    assert guard._near.cache.size == 0, "it knows nothing of its own yet"
    assert not [one for one in threading.enumerate() if one.name == "backchannel-logout"]
    warm()
elif forked != "while threads ask":
    warm()
os.write(1, b"warm\\n")
while not guard.is_revoked(ALICE):
    time.sleep(0.01)
assert not guard.is_revoked(NEIGHBOUR)
if forked != "while threads ask":
    assert guard._near.cache.alive(NEIGHBOUR)
os.write(1, b"told\\n")
guard.close()
if os.getpid() == parent:
    for _ in range(2):
        assert os.wait()[1] == 0
os.write(1, b"ended\\n")
os._exit(0)
"""


@pytest.mark.parametrize(
    "forked", ["before the first check", "while the thread runs", "while threads ask"]
)
async def test_each_process_has_its_own_thread_and_learns_of_logouts(
    forked: str, new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    """A parent and two forked children."""
    app_store = await new_app_store(redis_server)
    program = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-W", "ignore", "-c", FORKING, redis_server.url, app_store.app, forked],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stdout is not None
    timer = threading.Timer(120, program.kill)  # against a deadlock
    timer.start()
    try:
        begun = [await asyncio.to_thread(program.stdout.readline) for _ in range(3)]
        assert begun == ["warm\n"] * 3
        await app_store.write()
        rest = await asyncio.to_thread(program.stdout.readlines)
        assert sorted(rest) == ["ended\n"] * 3 + ["told\n"] * 3
        assert await asyncio.to_thread(program.wait) == 0
    finally:
        timer.cancel()
        program.kill()
        program.wait()
        program.stdout.close()
