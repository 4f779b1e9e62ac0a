"""A check that the near cache answers, next to one ``GET``; and the memory of a cached session.

Ten thousand sessions in turn, each parsed from JSON again, as in an app's requests (parsing is not
counted): strings that were hashed or compared before are found faster. Rounds of the calls
alternate; a ratio is taken within a round.
"""

import asyncio
import gc
import json
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backchannel_logout import AppKeys, AsyncSessionGuard, Session, SessionGuard
from backchannel_logout.near.cache import NearCache
from backchannel_logout.redis.connection import connect, connect_async
from bench.figures import median, spread, table
from bench.machine import cores, on_cores
from bench.report import Claim, Result
from tests.support.servers.redis_server import RedisServer

ROUNDS = 25
SESSIONS, GETS = 10_000, 300
KEPT = 50_000
"""For the memory: as many as a guard caches by default."""

GOAL_MICROSECONDS, GOAL_RATIO = 2, 50

ISS = "https://op.example/"
KEYS = AppKeys("shop")

NOW = int(time.time())

_BATCH = 500

# Seconds. Faster checks, on average, did not ask Redis; until the tail follows, all of them do.
_WARM = 20e-6
_PATIENCE = 10


def run(*, quick: bool) -> Result:
    rounds = 2 if quick else ROUNDS
    with tempfile.TemporaryDirectory() as directory:
        with on_cores(cores()[1]):
            server = RedisServer(Path(directory)).start()
        try:
            with server.client() as client:
                client.hset(KEYS.meta, mapping={"v": "1", "max_session_age": "86400"})
            with on_cores(cores()[0]):
                tasks = asyncio.run(measure_async(server.url, rounds))
                threads = measure(server.url, rounds)
        finally:
            server.stop()
    each = bytes_each(2000 if quick else KEPT)
    rows, claims = [], []
    for title, measured in (("asyncio", tasks), ("threads", threads)):
        warm, got = ([seconds[n] * 1e6 for seconds in measured] for n in (0, 1))
        ratios = [a / b for a, b in zip(got, warm, strict=True)]
        rows.append((title, spread(warm), spread(got, ".0f"), spread(ratios, ".0f")))
        claims += [
            Claim(
                f"microseconds of a check that the near cache answers, {title}",
                f"≤ {GOAL_MICROSECONDS}",
                spread(warm),
                held=median(warm) <= GOAL_MICROSECONDS,
            ),
            Claim(
                f"a bare GET on loopback, beside such a check, {title}",
                f"≥ {GOAL_RATIO}",
                spread(ratios, ".0f"),
                held=median(ratios) >= GOAL_RATIO,
            ),
        ]
    head = ("", "warm check, µs", "bare `GET`, µs", "times a warm check")
    memory = f"A cached session takes {each:,.0f} bytes, including its strings."
    return Result(f"{table(head, rows)}\n\n{memory}", claims)


async def measure_async(url: str, count: int) -> list[tuple[float, float]]:
    """The seconds of a warm check and of a bare ``GET``, for each round."""
    client = connect_async(url, timeout=5)

    async def checked() -> float:
        sessions = _sessions()
        for some in _chunks(_sessions()):
            await guard.which_revoked(some)
        began = time.perf_counter()
        for session in sessions:
            await guard.is_revoked(session)
        return (time.perf_counter() - began) / SESSIONS

    async def got() -> float:
        began = time.perf_counter()
        for _ in range(GETS):
            await client.get("nothing")
        return (time.perf_counter() - began) / GETS

    async with AsyncSessionGuard(url, app="shop", timeout=5) as guard:
        patience = time.monotonic() + _PATIENCE
        while await checked() > _WARM:
            assert time.monotonic() < patience, "the tail does not follow Redis"
            await asyncio.sleep(0.1)
        measured = [(await checked(), await got()) for _ in range(count)]
    await client.aclose()
    return measured


def measure(url: str, count: int) -> list[tuple[float, float]]:
    """The same for threads."""
    client = connect(url, timeout=5)

    def checked() -> float:
        sessions = _sessions()
        for some in _chunks(_sessions()):
            guard.which_revoked(some)
        began = time.perf_counter()
        for session in sessions:
            guard.is_revoked(session)
        return (time.perf_counter() - began) / SESSIONS

    def got() -> float:
        began = time.perf_counter()
        for _ in range(GETS):
            client.get("nothing")
        return (time.perf_counter() - began) / GETS

    with SessionGuard(url, app="shop", timeout=5, near_cache=True) as guard:
        patience = time.monotonic() + _PATIENCE
        while checked() > _WARM:
            assert time.monotonic() < patience, "the tail does not follow Redis"
            time.sleep(0.1)
        measured = [(checked(), got()) for _ in range(count)]
    client.close()
    return measured


def _sessions() -> list[Any]:
    """Sessions from ``json.loads``, whose objects were never used before."""
    return [
        json.loads(json.dumps({"user": sub, "iss": ISS, "sub": sub, "sid": sid, "login_at": NOW}))
        for sid, sub in _names(SESSIONS)
    ]


def _names(count: int) -> Iterator[tuple[str, str]]:
    """A ``sid`` and a ``sub`` for each, as long as those of providers."""
    for n in range(count):
        yield f"08a5019c-17e1-4977-8f42-{n:012d}", f"auth0|5f7c8ec7c33c6c{n:010d}"


def _chunks(sessions: list[Any]) -> Iterator[list[Any]]:
    for first in range(0, len(sessions), _BATCH):
        yield sessions[first : first + _BATCH]


def bytes_each(sessions: int) -> float:
    """The memory of one cached session, including its strings."""
    cache = NearCache(sessions, max_stale=5)
    fence = cache.fence()
    gc.collect()
    tracemalloc.start()
    for n, (sid, sub) in enumerate(_names(sessions)):
        cache.put(Session(ISS, NOW - n, sid=sid, sub=sub), fence, 3600)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / sessions
