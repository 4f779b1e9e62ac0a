"""What one check costs, beside the same library's bare commands.

    bare MGET    the three keys of a check, asked for and not looked at
    guard        `is_revoked`: the same MGET, and the decision
    two GETs     what express-openid-connect's check of a session costs

Rounds of the three alternate, so that whatever else the machine does meets them alike; the
ratio of a round is taken within it, and the median of the rounds is printed.
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
from tests.support.redis_server import RedisServer

ROUNDS = 60
CALLS = 300

KEYS = AppKeys("shop")
SESSION = Session(iss="https://op.example", sid="s1", sub="alice", login_at=int(time.time()))
WANTED = marker_keys(KEYS, SESSION)

NAMES = ("bare MGET", "guard", "two GETs")


def measure(url: str, count: int) -> list[list[float]]:
    """Seconds of each round, for threads."""
    client = connect(url, timeout=5)

    def two_gets() -> None:
        client.get(WANTED[0])
        client.get(WANTED[1])

    def timed(call: Callable[[], object]) -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            call()
        return time.perf_counter() - began

    with SessionGuard(url, app="shop", timeout=5) as guard:
        calls = (lambda: client.mget(WANTED), lambda: guard.is_revoked(SESSION), two_gets)
        for call in calls:
            timed(call)
        rounds = [[timed(call) for call in calls] for _ in range(count)]
    client.close()
    return rounds


async def measure_async(url: str, count: int) -> list[list[float]]:
    """Seconds of each round, for asyncio."""
    client = connect_async(url, timeout=5)

    async def two_gets() -> None:
        await client.get(WANTED[0])
        await client.get(WANTED[1])

    async def timed(call: Callable[[], Awaitable[object]]) -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            await call()
        return time.perf_counter() - began

    async with AsyncSessionGuard(url, app="shop", timeout=5) as guard:
        calls: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: client.mget(WANTED),
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
        ratio = statistics.median(one[n] / one[0] for one in rounds)
        each = statistics.median(one[n] for one in rounds) / CALLS * 1e6
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
