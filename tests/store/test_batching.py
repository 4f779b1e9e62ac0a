"""Writes that share round trips: each gets its own result, and none is forgotten."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from app.revocation import Once, Revocation
from app.store import batching
from app.store.batching import FLUSHERS, MAX_BATCH, BatchedWrites, PendingWrite
from app.store.errors import RedisAway, RedisFault, RevocationRefused
from app.store.store import NEW_MARKER, Result, Store
from backchannel_logout import AppKeys
from tests.support.apps.listening import until
from tests.support.revocations import AppStore, numbered
from tests.support.servers.redis_server import RedisServer
from tests.support.store_fixtures import NewAppStore


def in_seconds(seconds: float) -> float:
    """A deadline in the event loop's time."""
    return asyncio.get_running_loop().time() + seconds


class BatchingHarness:
    """Batched writes to an app's store. `batches` holds the size of each round trip."""

    def __init__(self, app_store: AppStore) -> None:
        self.app_store = app_store
        self.batches: list[int] = []
        self.handed_over: list[list[Result]] = []
        self._futures: dict[PendingWrite, asyncio.Future[Result]] = {}
        self.writes = BatchedWrites(self._counted(app_store.store), self._on_batch)

    def _counted(self, store: Store) -> Store:
        whole = store.write

        async def write(revocations: Sequence[Revocation], **others: Any) -> list[Result]:
            self.batches.append(len(revocations))
            return await whole(revocations, **others)

        store.write = write  # type: ignore[method-assign]
        return store

    def _on_batch(self, results: Sequence[tuple[PendingWrite, Result]]) -> None:
        self.handed_over.append([result for _, result in results])
        for write, result in results:
            self._futures.pop(write).set_result(result)

    async def write(self, revocation: Revocation, seconds: float = 10) -> int:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        write = PendingWrite(revocation, in_seconds(seconds))
        self._futures[write] = future
        self.writes.submit(write)
        try:
            result = await future
        finally:
            self.writes.abandon(write)
        if isinstance(result, RedisFault):
            raise result
        return result


@pytest.fixture
def harness(app_store: AppStore) -> BatchingHarness:
    return BatchingHarness(app_store)


@pytest.fixture
def own_harness(new_app_store: NewAppStore, redis_server: RedisServer) -> BatchingHarness:
    return BatchingHarness(new_app_store(redis_server))


async def test_without_load_each_write_is_sent_at_once_and_alone(harness: BatchingHarness) -> None:
    for n in range(3):
        assert await harness.write(harness.app_store.numbered(n)) == NEW_MARKER
    assert harness.batches == [1, 1, 1]


async def test_an_idle_flusher_keeps_its_connection_for_a_while(
    harness: BatchingHarness,
) -> None:
    taken: list[object] = []
    pool = harness.app_store.link.client.connection_pool
    take = pool.get_connection

    async def counted() -> Any:
        taken.append(None)
        return await take()

    pool.get_connection = counted
    for n in range(20):
        assert await harness.write(harness.app_store.numbered(n)) == NEW_MARKER
    assert len(taken) < 20
    [of_server] = harness.writes._queues.values()
    await until(lambda: not of_server.flushers, "the flusher has ended")
    assert not of_server.idle
    again = len(taken)
    assert await harness.write(harness.app_store.numbered(20)) == NEW_MARKER
    assert len(taken) == again + 1


async def test_a_close_does_not_wait_for_an_idle_flusher(
    harness: BatchingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "IDLE_SECONDS", 3600)
    assert await harness.write(harness.app_store.numbered(0)) == NEW_MARKER
    [of_server] = harness.writes._queues.values()
    await until(lambda: of_server.idle, "the flusher is idle")
    async with asyncio.timeout(60):
        await harness.writes.aclose()
    assert not of_server.flushers
    assert await harness.write(harness.app_store.numbered(1)) == NEW_MARKER
    async with asyncio.timeout(60):
        await harness.writes.aclose()


async def test_writes_beyond_one_batch_get_another_flusher_at_once(
    harness: BatchingHarness,
) -> None:
    revocations = [harness.app_store.numbered(n) for n in range(2 * MAX_BATCH)]
    await asyncio.gather(*(harness.write(revocation) for revocation in revocations))
    assert harness.batches == [MAX_BATCH] * 2


async def test_concurrent_writes_share_round_trips_and_each_gets_its_own_result(
    harness: BatchingHarness,
) -> None:
    await harness.write(harness.app_store.numbered(0))
    revocations = [harness.app_store.numbered(n % 600) for n in range(1000)]
    results = await asyncio.gather(*(harness.write(revocation) for revocation in revocations))
    assert (results[0], results[600]) == (0, 0)
    # Of two in different batches either may be first: flushers do not wait for each other.
    assert all({results[n], results[n + 600]} == {NEW_MARKER, 0} for n in range(1, 400))
    assert results[400:600] == [NEW_MARKER] * 200
    assert len(harness.batches) <= FLUSHERS + 1 + 1000 / MAX_BATCH + 1
    assert len(harness.app_store.events()) == 600


async def test_a_refused_write_does_not_fail_the_others(harness: BatchingHarness) -> None:
    other = f"{harness.app_store.app}-other"
    harness.app_store.look.set(AppKeys(other).events, "not a stream")
    revocations = [harness.app_store.numbered(n) for n in range(20)]
    revocations[7] = numbered(7, other)
    results: list[Any] = await asyncio.gather(
        *(harness.write(revocation) for revocation in revocations), return_exceptions=True
    )
    assert isinstance(results.pop(7), RevocationRefused)
    assert results == [NEW_MARKER] * 19


async def test_a_bug_leaves_no_write_without_a_result(
    harness: BatchingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> list[Result]:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(harness.app_store.store, "write", broken)
        results = await asyncio.gather(
            *(harness.write(harness.app_store.numbered(n)) for n in range(3)),
            return_exceptions=True,
        )
    assert [str(result) for result in results] == ["internal"] * 3
    assert await harness.write(harness.app_store.numbered(1)) == NEW_MARKER


async def test_requests_that_give_up_leave_no_reply_behind(harness: BatchingHarness) -> None:
    """Cancelled at any moment: later ones still read their own replies."""
    seen = harness.app_store.revocation(once=Once("seen", "s1", "alice", time.time() + 300))
    await harness.write(seen)
    for turn in range(60):
        task = asyncio.create_task(harness.write(harness.app_store.numbered(1000 + turn)))
        for _ in range(turn % 12):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        answers = await asyncio.gather(
            harness.write(seen), harness.write(harness.app_store.numbered(turn + 2))
        )
        assert answers == [0, NEW_MARKER]


async def test_a_write_is_tried_again_until_redis_is_back_or_its_deadline(
    own_harness: BatchingHarness, redis_server: RedisServer
) -> None:
    await asyncio.to_thread(redis_server.stop)
    with pytest.raises(RedisAway):
        await own_harness.write(own_harness.app_store.numbered(1), seconds=0.2)
    task = asyncio.create_task(own_harness.write(own_harness.app_store.numbered(2), seconds=20))
    await asyncio.to_thread(redis_server.start)
    assert await task == NEW_MARKER


@pytest.mark.slow
async def test_a_redis_that_hangs_fills_no_queue(
    own_harness: BatchingHarness, redis_server: RedisServer
) -> None:
    """Abandoned writes are dropped, and the next one after the outage is written at once."""
    await own_harness.write(own_harness.app_store.numbered(0))
    redis_server.freeze()
    results = await asyncio.gather(
        *(own_harness.write(own_harness.app_store.numbered(n), seconds=0.3) for n in range(2000)),
        return_exceptions=True,
    )
    assert all(isinstance(result, RedisAway) for result in results)
    await own_harness.writes.aclose()
    assert [len(queue.writes) for queue in own_harness.writes._queues.values()] == [0]
    redis_server.thaw()
    assert await own_harness.write(own_harness.app_store.numbered(9999)) == NEW_MARKER
    assert sum(own_harness.batches) <= 2 + 2 * MAX_BATCH


@contextlib.asynccontextmanager
async def swallowing(server: RedisServer, answers: int) -> AsyncIterator[str]:
    """A proxy that loses this many replies, with their connections."""
    left = answers

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        there, back = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            while request := await reader.read(1 << 20):
                back.write(request)
                answer = await there.read(1 << 20)
                if b"EVALSHA" in request and left:
                    left -= 1
                    return
                writer.write(answer)
        except OSError:
            pass
        finally:
            back.close()
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        yield f"redis://127.0.0.1:{port}/0"


async def test_a_write_whose_reply_was_lost_counts_as_new(
    new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    """The second try finds it written: as a repetition, it would be missing in the copy."""
    direct = new_app_store(redis_server)
    await direct.write()  # the server has the script now
    async with swallowing(redis_server, 1) as url:
        harness = BatchingHarness(new_app_store(redis_server, url=url))
        assert await harness.write(harness.app_store.numbered(1)) == 1
        assert await harness.write(harness.app_store.numbered(1)) == 0
        assert len(harness.app_store.events()) == 1
        await harness.app_store.link.aclose()


async def test_a_write_at_the_end_of_a_round_trip_is_not_forgotten(
    harness: BatchingHarness,
) -> None:
    """Each writer begins its next write in the step in which the last one completes."""

    async def in_sequence(first: int) -> None:
        for n in range(first, first + 150):
            assert await harness.write(harness.app_store.numbered(n), seconds=5) == NEW_MARKER

    await asyncio.gather(*(in_sequence(1000 * k) for k in range(FLUSHERS + 2)))


@pytest.mark.parametrize("seconds", [0, 0.001, 0.002])
async def test_a_write_at_the_end_of_a_flusher_is_not_forgotten(
    harness: BatchingHarness, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "IDLE_SECONDS", seconds)
    faults: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(context))

    async def with_pauses(first: int) -> None:
        for n in range(first, first + 150):
            await asyncio.sleep(seconds * (n % 4) / 2)
            assert await harness.write(harness.app_store.numbered(n), seconds=5) == NEW_MARKER

    async with asyncio.timeout(60):
        await asyncio.gather(*(with_pauses(1000 * k) for k in range(FLUSHERS + 2)))
    assert not faults


async def test_each_write_fails_at_its_own_deadline(
    own_harness: BatchingHarness, redis_server: RedisServer
) -> None:
    redis_server.freeze()
    try:
        order: list[str] = []

        async def give_up(name: str, seconds: float) -> None:
            with pytest.raises(RedisAway, match="timeout"):
                await own_harness.write(own_harness.app_store.numbered(len(name)), seconds)
            order.append(name)

        async with asyncio.timeout(60):
            await asyncio.gather(give_up("last", 0.6), give_up("first", 0.2), give_up("next", 0.4))
        assert order == ["first", "next", "last"]
    finally:
        redis_server.thaw()


async def test_a_consumer_that_fails_ends_no_flusher(harness: BatchingHarness) -> None:
    received: list[Sequence[tuple[PendingWrite, Result]]] = []

    def fail(results: Sequence[tuple[PendingWrite, Result]]) -> None:
        received.append(results)
        raise ZeroDivisionError

    writes = BatchedWrites(harness.app_store.store, fail)
    for n in range(2):
        writes.submit(PendingWrite(harness.app_store.numbered(n), in_seconds(10)))
        assert len(received) == n, "not before Redis has replied"
        await until(lambda n=n: len(received) == n + 1, "the results are handed over")
    await writes.aclose()
    assert [result for [(_, result)] in received] == [NEW_MARKER] * 2


async def test_the_results_of_a_round_trip_are_handed_over_as_one_batch(
    harness: BatchingHarness,
) -> None:
    await asyncio.gather(*(harness.write(harness.app_store.numbered(n)) for n in range(3)))
    assert harness.handed_over == [[NEW_MARKER] * 3]
