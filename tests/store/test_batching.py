"""Writes that share round trips: each reads its own answer, and waits for nobody in vain."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from app.revocation import Once, Revocation
from app.store import batching
from app.store.batching import LANES, LARGEST_GROUP, BatchedWrites
from app.store.errors import RedisAway, RevocationRefused
from app.store.store import NEW_MARKER, Result, Store
from backchannel_logout import AppKeys
from tests.support.listening import until
from tests.support.redis_server import RedisServer
from tests.support.revocations import Shelf, numbered
from tests.support.store_fixtures import NewShelf


def in_seconds(seconds: float) -> float:
    """A deadline in the event loop's time."""
    return asyncio.get_running_loop().time() + seconds


class Line:
    """Grouped writes to a shelf. `groups` holds the size of each round trip."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.groups: list[int] = []
        self.writes = BatchedWrites(self._counted(shelf.store))

    def _counted(self, store: Store) -> Store:
        whole = store.write

        async def write(revocations: Sequence[Revocation], **others: Any) -> list[Result]:
            self.groups.append(len(revocations))
            return await whole(revocations, **others)

        store.write = write  # type: ignore[method-assign]
        return store

    async def write(self, revocation: Revocation, seconds: float = 10) -> int:
        return await self.writes.write(revocation, until=in_seconds(seconds))


@pytest.fixture
def line(shelf: Shelf) -> Line:
    return Line(shelf)


@pytest.fixture
def own_line(new_shelf: NewShelf, redis_server: RedisServer) -> Line:
    return Line(new_shelf(redis_server))


async def test_without_load_each_write_goes_at_once_and_alone(line: Line) -> None:
    for n in range(3):
        assert await line.write(line.shelf.numbered(n)) == NEW_MARKER
    assert line.groups == [1, 1, 1]


async def test_a_lane_keeps_its_connection_for_a_while_and_then_leaves_it_to_others(
    line: Line,
) -> None:
    taken: list[object] = []
    pool = line.shelf.link.client.connection_pool
    take = pool.get_connection

    async def counted() -> Any:
        taken.append(None)
        return await take()

    pool.get_connection = counted
    for n in range(20):
        assert await line.write(line.shelf.numbered(n)) == NEW_MARKER
    assert len(taken) < 20
    [of_server] = line.writes._lines.values()
    await until(lambda: not of_server.lanes, "the lane has ended")
    assert not of_server.idle
    again = len(taken)
    assert await line.write(line.shelf.numbered(20)) == NEW_MARKER
    assert len(taken) == again + 1


async def test_a_close_waits_for_no_lane_that_has_nothing_to_do(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "LINGER_SECONDS", 3600)
    assert await line.write(line.shelf.numbered(0)) == NEW_MARKER
    [of_server] = line.writes._lines.values()
    await until(lambda: of_server.idle, "the lane waits")
    async with asyncio.timeout(60):
        await line.writes.aclose()
    assert not of_server.lanes
    assert await line.write(line.shelf.numbered(1)) == NEW_MARKER
    async with asyncio.timeout(60):
        await line.writes.aclose()


async def test_what_is_too_much_for_one_group_has_another_lane_at_once(line: Line) -> None:
    ones = [line.shelf.numbered(n) for n in range(2 * LARGEST_GROUP)]
    await asyncio.gather(*(line.write(one) for one in ones))
    assert line.groups == [LARGEST_GROUP] * 2


async def test_what_comes_together_goes_together_and_each_has_its_own_answer(line: Line) -> None:
    await line.write(line.shelf.numbered(0))
    ones = [line.shelf.numbered(n % 600) for n in range(1000)]
    results = await asyncio.gather(*(line.write(one) for one in ones))
    assert (results[0], results[600]) == (0, 0)
    # Of two in different groups either may be first: lanes do not wait for each other.
    assert all({results[n], results[n + 600]} == {NEW_MARKER, 0} for n in range(1, 400))
    assert results[400:600] == [NEW_MARKER] * 200
    assert len(line.groups) <= LANES + 1 + 1000 / LARGEST_GROUP + 1
    assert len(line.shelf.events()) == 600


async def test_one_that_is_refused_does_not_fail_the_others(line: Line) -> None:
    other = f"{line.shelf.app}-other"
    line.shelf.look.set(AppKeys(other).events, "not a stream")
    ones = [line.shelf.numbered(n) for n in range(20)]
    ones[7] = numbered(7, other)
    results: list[Any] = await asyncio.gather(
        *(line.write(one) for one in ones), return_exceptions=True
    )
    assert isinstance(results.pop(7), RevocationRefused)
    assert results == [NEW_MARKER] * 19


async def test_a_fault_of_ours_leaves_nobody_without_an_answer(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> list[Result]:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(line.shelf.store, "write", broken)
        results = await asyncio.gather(
            *(line.write(line.shelf.numbered(n)) for n in range(3)), return_exceptions=True
        )
    assert [str(result) for result in results] == ["internal"] * 3
    assert await line.write(line.shelf.numbered(1)) == NEW_MARKER


async def test_requests_that_give_up_leave_no_answer_behind(line: Line) -> None:
    """Cancelled at any moment: those after them still read their own answers."""
    seen = line.shelf.revocation(once=Once("seen", "s1", "alice", time.time() + 300))
    await line.write(seen)
    for turn in range(60):
        task = asyncio.create_task(line.write(line.shelf.numbered(1000 + turn)))
        for _ in range(turn % 12):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        answers = await asyncio.gather(line.write(seen), line.write(line.shelf.numbered(turn + 2)))
        assert answers == [0, NEW_MARKER]


async def test_a_write_is_tried_again_until_redis_is_back_or_its_time_is_over(
    own_line: Line, redis_server: RedisServer
) -> None:
    await asyncio.to_thread(redis_server.stop)
    with pytest.raises(RedisAway):
        await own_line.write(own_line.shelf.numbered(1), seconds=0.2)
    task = asyncio.create_task(own_line.write(own_line.shelf.numbered(2), seconds=20))
    await asyncio.to_thread(redis_server.start)
    assert await task == NEW_MARKER


@pytest.mark.slow
async def test_a_redis_that_hangs_fills_no_queue(own_line: Line, redis_server: RedisServer) -> None:
    """Who has given up is dropped, and the next one after the outage is written at once."""
    await own_line.write(own_line.shelf.numbered(0))
    redis_server.freeze()
    results = await asyncio.gather(
        *(own_line.write(own_line.shelf.numbered(n), seconds=0.3) for n in range(2000)),
        return_exceptions=True,
    )
    assert all(isinstance(result, RedisAway) for result in results)
    await own_line.writes.aclose()
    assert [len(one.waiting) for one in own_line.writes._lines.values()] == [0]
    redis_server.thaw()
    assert await own_line.write(own_line.shelf.numbered(9999)) == NEW_MARKER
    assert sum(own_line.groups) <= 2 + 2 * LARGEST_GROUP


@contextlib.asynccontextmanager
async def swallowing(server: RedisServer, answers: int) -> AsyncIterator[str]:
    """A way to the server on which so many answers are lost with their connections."""
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


async def test_what_was_written_although_its_answer_was_lost_counts_as_new(
    new_shelf: NewShelf, redis_server: RedisServer
) -> None:
    """The second try finds it there: taken for a repetition, it would not be in the copy of
    what was acknowledged."""
    direct = new_shelf(redis_server)
    await direct.write()  # the server has the script now
    async with swallowing(redis_server, 1) as url:
        line = Line(new_shelf(redis_server, url=url))
        assert await line.write(line.shelf.numbered(1)) == 1
        assert await line.write(line.shelf.numbered(1)) == 0
        assert len(line.shelf.events()) == 1
        await line.shelf.link.aclose()


async def test_who_comes_in_the_moment_when_a_round_trip_ends_is_not_forgotten(line: Line) -> None:
    """Each writer begins its next write in the very step in which its last one is answered."""

    async def one_after_the_other(first: int) -> None:
        for n in range(first, first + 150):
            assert await line.write(line.shelf.numbered(n), seconds=5) == NEW_MARKER

    await asyncio.gather(*(one_after_the_other(1000 * k) for k in range(LANES + 2)))


@pytest.mark.parametrize("seconds", [0, 0.001, 0.002])
async def test_who_comes_in_the_moment_when_a_lane_ends_is_not_forgotten(
    line: Line, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "LINGER_SECONDS", seconds)
    faults: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(context))

    async def now_and_then(first: int) -> None:
        for n in range(first, first + 150):
            await asyncio.sleep(seconds * (n % 4) / 2)
            assert await line.write(line.shelf.numbered(n), seconds=5) == NEW_MARKER

    async with asyncio.timeout(60):
        await asyncio.gather(*(now_and_then(1000 * k) for k in range(LANES + 2)))
    assert not faults


async def test_each_gives_up_at_its_own_time_whoever_was_first(
    own_line: Line, redis_server: RedisServer
) -> None:
    redis_server.freeze()
    try:
        order: list[str] = []

        async def give_up(name: str, seconds: float) -> None:
            with pytest.raises(RedisAway, match="timeout"):
                await own_line.write(own_line.shelf.numbered(len(name)), seconds)
            order.append(name)

        async with asyncio.timeout(60):
            await asyncio.gather(give_up("last", 0.6), give_up("first", 0.2), give_up("next", 0.4))
        assert order == ["first", "next", "last"]
    finally:
        redis_server.thaw()


async def test_who_is_told_later_is_told_once_and_harms_nobody(line: Line) -> None:
    told: list[Result] = []

    def fail(_: Result) -> None:
        raise ZeroDivisionError

    until = in_seconds(10)
    line.writes.begin(line.shelf.numbered(0), until=until, done=fail)
    line.writes.begin(line.shelf.numbered(1), until=until, done=told.append)
    assert told == [], "not before it has been asked for"
    assert await line.write(line.shelf.numbered(2)) == NEW_MARKER
    assert told == [NEW_MARKER]


class Kept:
    """A gathering that notes what happens to it, in ``story``."""

    def __init__(self, name: str, story: list[str]) -> None:
        self._name, self._story = name, story

    def hold(self) -> None:
        self._story.append(f"hold {self._name}")

    def release(self) -> None:
        self._story.append(f"release {self._name}")


async def test_what_is_gathered_is_done_once_for_a_group_when_all_are_told(line: Line) -> None:
    """Also where somebody can not be told."""
    story: list[str] = []
    line.writes.gatherings += [Kept("copy", story), Kept("log", story)]

    def told(result: Result) -> None:
        story.append(f"told {result}")
        raise RuntimeError("a fault of whoever is told")

    for n in range(3):
        line.writes.begin(line.shelf.numbered(n), until=in_seconds(10), done=told)
    await line.writes.aclose()
    group = ["hold copy", "hold log", *["told 2"] * 3, "release copy", "release log"]
    assert story == group
