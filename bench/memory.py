"""The memory of logouts in Redis: bytes of ``used_memory``, written by the product's own store.

    marker       a million markers and nothing else
    event        the addition of the entry in the stream
    jti          the addition of the key that detects a repeated token
    whole        all three, while all three exist

On Valkey 9 and, if Debian's package is available, on Redis 7. Without an append-only file, because
its buffers vary.
"""

import asyncio
import dataclasses
import multiprocessing
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from app.revocation import Once, Revocation, revoke
from app.store.store import Store
from app.store.topology import RedisTopology, connect
from backchannel_logout import EventKind
from bench.figures import table
from bench.report import Claim, Result
from bench.servers import NotMeasured, Rig, check, debian, express
from bench.throughput import new_rig
from bench.tokens import CLIENT_ID, USERS, Token
from tests.support.servers.redis_server import RedisServer

# 95 % of a power of two, so that the hash table is well filled.
MARKERS = 1_000_000
LOGOUTS = MARKERS // 8

MARKER_BYTES = 160
WHOLE_BYTES: Mapping[str, int] = {"Redis": 550, "Valkey": 450}

_ISSUER = "https://tenant.eu.auth0.com/"
_APP = "shop"
_MONTH = 30 * 86400
_DAY_LOGOUTS = 1_000_000

# How long a jti is stored by default: max_token_age and leeway.
_JTI_SECONDS = 360

_BATCH = 500

_REHASHING_SECONDS = 60.0

# A shared machine pauses for a second now and then. A marker that is written twice counts once, and
# the stream has a limit.
_TRIES = 5


class _Redis7(RedisServer):
    """Debian's package instead of the tests' server."""

    def _command(self) -> list[str]:
        own = debian.find("usr/bin/redis-server")
        assert own is not None
        libraries = [f"{name}={value}" for name, value in debian.environment().items()]
        return ["env", *libraries, own, *super()._command()[1:]]


def run(*, quick: bool) -> Result:
    share = 50 if quick else 1
    rows, claims = [], []
    with new_rig() as (rig, mint), _pool() as pool:
        kinds: list[type[RedisServer]] = [RedisServer]
        if debian.find("usr/bin/redis-server"):
            kinds.append(_Redis7)
        for kind in kinds:
            name, costs = _costs(kind, rig.directory / kind.__name__, pool, share)
            rows.append((name, *(f"{costs[part]:.0f}" for part in _PARTS), *_day(costs)))
            claims += _claims(name, costs)
        if _Redis7 not in kinds:
            rows.append(("Redis 7", "not measured: Debian's package is missing"))
        try:
            beside = f"{_express(rig, mint.sign(31_200 // 2 // share)):.0f} bytes"
        except NotMeasured as fault:
            beside = f"not measured ({fault})"
    head = ("bytes", *_PARTS, "a day of a million logouts, MB", "thirty such days, MB")
    return Result(
        f"{table(head, rows)}\n\nexpress-openid-connect, for its two keys and no event: {beside}.",
        claims,
    )


_PARTS = ("marker", "event", "jti", "whole")


def _costs(
    kind: type[RedisServer], directory: Path, pool: ProcessPoolExecutor, share: int
) -> tuple[str, dict[str, float]]:
    """The server's name and version, and the bytes of each part of one logout."""
    marker = _bytes(kind, directory / "a", pool, MARKERS // share, events=False, once=False)
    event = _bytes(kind, directory / "b", pool, LOGOUTS // share, events=True, once=False)
    whole = _bytes(kind, directory / "c", pool, LOGOUTS // share, events=True, once=True)
    costs = {"marker": marker[1], "event": event[1] - marker[1], "jti": whole[1] - event[1]}
    return marker[0], costs | {"whole": whole[1]}


def _bytes(
    kind: type[RedisServer],
    directory: Path,
    pool: ProcessPoolExecutor,
    count: int,
    *,
    events: bool,
    once: bool,
) -> tuple[str, float]:
    """The server's name, and the memory of each of ``count`` logouts."""
    server = kind(directory, "--appendonly", "no").start()
    try:
        with server.client() as client:
            before = _used(server)
            jobs = [
                pool.submit(_fill, server.url, count // 2, count if events else 1, once=once)
                for _ in range(2)
            ]
            for job in jobs:
                job.result()
            info = client.info("server")
            name = "Valkey" if "valkey_version" in info else "Redis"
            version = info.get("valkey_version", info["redis_version"])
            return f"{name} {version}", (_used(server) - before) / count
    finally:
        server.stop()


def _used(server: RedisServer) -> int:
    """``used_memory`` after closed clients are freed and rehashing is finished, which takes an idle
    server seconds."""
    time.sleep(0.5)
    deadline = time.monotonic() + _REHASHING_SECONDS
    with server.client() as client:
        while (info := client.info("memory")).get("mem_overhead_db_hashtable_rehashing"):
            if time.monotonic() > deadline:
                raise NotMeasured("rehashing takes too long")
            time.sleep(0.1)
        return int(info["used_memory"])


def _day(costs: Mapping[str, float]) -> tuple[str, str]:
    """Megabytes after one day, and after the thirty days that markers live. The stream has a
    million entries by default, and a ``jti`` lasts six minutes."""
    marker, rest = costs["marker"] * _DAY_LOGOUTS, costs["event"] * _DAY_LOGOUTS
    rest += costs["jti"] * _DAY_LOGOUTS * _JTI_SECONDS / 86400
    return f"{(marker + rest) / 1e6:,.0f}", f"{(30 * marker + rest) / 1e6:,.0f}"


def _claims(name: str, costs: Mapping[str, float]) -> list[Claim]:
    goal = WHOLE_BYTES[name.partition(" ")[0]]
    return [
        Claim(
            f"bytes of a marker, of a million, {name}",
            f"≤ {MARKER_BYTES}",
            f"{costs['marker']:.0f}",
            held=costs["marker"] <= MARKER_BYTES,
        ),
        Claim(
            f"bytes of a whole logout, {name}",
            f"≤ {goal}",
            f"{costs['whole']:.0f}",
            held=costs["whole"] <= goal,
        ),
    ]


def _express(rig: Rig, tokens: list[Token]) -> float:
    with express.running(rig) as server:
        assert server.redis is not None
        check(server, tokens[:40])
        before = _used(server.redis)
        server.send(tokens)
        return (_used(server.redis) - before) / len(tokens)


# -- in the processes of the pool -----------------------------------------------------------


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def _fill(url: str, count: int, max_events: int, *, once: bool) -> None:
    asyncio.run(_write(url, count, max_events, once=once))


async def _write(url: str, count: int, max_events: int, *, once: bool) -> None:
    client = connect(url)
    store = Store(
        RedisTopology(client),
        apps={_APP: _MONTH},
        event_retention=7 * 86400,
        event_max_len=max_events,
    )
    for first in range(0, count, _BATCH):
        batch = [_revocation(once=once) for _ in range(min(_BATCH, count - first))]
        for _ in range(_TRIES):
            results = await store.write(batch)
            if all(isinstance(result, int) for result in results):
                break
        else:
            raise NotMeasured(f"Redis refuses the write: {results[0]}")
    await client.aclose()


def _revocation(*, once: bool) -> Revocation:
    """The receiver's revocation for a token like Auth0's, with ``sid`` and ``sub``."""
    now, sid, sub = time.time(), secrets.token_urlsafe(24), USERS + secrets.token_hex(12)
    message = Once(jti=secrets.token_urlsafe(16), sid=sid, sub=sub, until=now + 86400)
    built = revoke(
        app=_APP,
        kind=EventKind.SESSION,
        issuer_names=(_ISSUER,),
        sid=sid,
        sub=sub,
        since=now,
        source="backchannel-logout",
        received_at=now,
        max_session_age=_MONTH,
        leeway=60,
        client_ids=(CLIENT_ID,),
        once=message,
    )
    return built if once else dataclasses.replace(built, once=None)
