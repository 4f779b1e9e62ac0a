"""The cost of one check, next to bare commands of the same library.

    bare MGET    the three keys of a check, without a decision
    guard        `is_revoked`: the same MGET, and the decision
    two GETs     the commands of express-openid-connect's check of a session

Rounds of the three alternate, so that other load on the machine affects them alike. A ratio is
taken within a round, and the median of the rounds is reported.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from backchannel_logout import AppKeys, AsyncSessionGuard, Session, SessionGuard, marker_keys
from backchannel_logout.redis.connection import connect, connect_async
from bench.figures import table
from bench.report import Result
from tests.support.servers.redis_server import RedisServer

ROUNDS = 60
CALLS = 300

KEYS = AppKeys("shop")
SESSION = Session(iss="https://op.example", sid="s1", sub="alice", login_at=int(time.time()))
MARKERS = marker_keys(KEYS, SESSION)

NAMES = ("bare MGET", "guard", "two GETs")


def measure(url: str, count: int) -> list[list[float]]:
    """The seconds of each round, for threads."""
    client = connect(url, timeout=5)

    def two_gets() -> None:
        client.get(MARKERS[0])
        client.get(MARKERS[1])

    def timed(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        return time.perf_counter() - start

    with SessionGuard(url, app="shop", timeout=5) as guard:
        calls = (lambda: client.mget(MARKERS), lambda: guard.is_revoked(SESSION), two_gets)
        for call in calls:
            timed(call)
        rounds = [[timed(call) for call in calls] for _ in range(count)]
    client.close()
    return rounds


async def measure_async(url: str, count: int) -> list[list[float]]:
    """The seconds of each round, for asyncio."""
    client = connect_async(url, timeout=5)

    async def two_gets() -> None:
        await client.get(MARKERS[0])
        await client.get(MARKERS[1])

    async def timed(call: Callable[[], Awaitable[object]]) -> float:
        start = time.perf_counter()
        for _ in range(CALLS):
            await call()
        return time.perf_counter() - start

    async with AsyncSessionGuard(url, app="shop", timeout=5) as guard:
        calls: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: client.mget(MARKERS),
            lambda: guard.is_revoked(SESSION),
            two_gets,
        )
        for call in calls:
            await timed(call)
        rounds = [[await timed(call) for call in calls] for _ in range(count)]
    await client.aclose()
    return rounds


def lines(title: str, rounds: list[list[float]]) -> list[tuple[str, ...]]:
    """A row of the table for each of `NAMES`."""
    rows: list[tuple[str, ...]] = []
    for n, name in enumerate(NAMES):
        ratio = statistics.median(seconds[n] / seconds[0] for seconds in rounds)
        each = statistics.median(seconds[n] for seconds in rounds) / CALLS * 1e6
        rows.append((f"{name}, {title}", f"{ratio:.2f}", f"{each:.0f}"))
    return rows


def run(*, quick: bool) -> Result:
    rounds = 3 if quick else ROUNDS
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(Path(directory)).start()
        try:
            with server.client() as client:
                client.hset(KEYS.meta, mapping={"v": "1", "max_session_age": "3600"})
            rows = lines("threads", measure(server.url, rounds))
            rows += lines("asyncio", asyncio.run(measure_async(server.url, rounds)))
        finally:
            server.stop()
    return Result(table(("", "ratio", "microseconds"), rows))
