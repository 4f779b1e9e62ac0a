"""What logouts cost in Redis: bytes of ``used_memory``, written by the product's own store.

    marker       a million markers; nothing else is kept
    event        what the entry in the stream adds
    jti          what the note adds by which a token is known again
    whole        all three, as long as all three live

On Valkey 9 and, where Debian's package can be had, on Redis 7. Without an append-only file, whose
buffers come and go.
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
from bench.servers import NotMeasured, Stage, check, debian, express
from bench.throughput import stage
from bench.tokens import CLIENT_ID, USERS, Token
from tests.support.redis_server import RedisServer

# 95 % of a power of two: a hash table that is well filled, like most.
MARKERS = 1_000_000
LOGOUTS = MARKERS // 8

MARKER_BYTES = 160
WHOLE_BYTES: Mapping[str, int] = {"Redis": 550, "Valkey": 450}

_ISSUER = "https://tenant.eu.auth0.com/"
_APP = "shop"
_MONTH = 30 * 86400
_DAY_LOGOUTS = 1_000_000

# How long a jti is remembered with the defaults: max_token_age and leeway.
_JTI_SECONDS = 360

_BATCH = 500

_REHASHING_SECONDS = 60.0

# A machine that others share stands still for a second now and then; what is written twice is one
# marker, and the stream has a limit.
_TRIES = 5


class _Redis7(RedisServer):
    """Debian's package instead of what the tests find."""

    def _command(self) -> list[str]:
        own = debian.find("usr/bin/redis-server")
        assert own is not None
        libraries = [f"{name}={value}" for name, value in debian.environment().items()]
        return ["env", *libraries, own, *super()._command()[1:]]


def run(*, quick: bool) -> Result:
    share = 50 if quick else 1
    rows, claims = [], []
    with stage() as (where, mint), _pool() as pool:
        kinds: list[type[RedisServer]] = [RedisServer]
        if debian.find("usr/bin/redis-server"):
            kinds.append(_Redis7)
        for kind in kinds:
            name, costs = _costs(kind, where.directory / kind.__name__, pool, share)
            rows.append((name, *(f"{costs[part]:.0f}" for part in _PARTS), *_day(costs)))
            claims += _claims(name, costs)
        if _Redis7 not in kinds:
            rows.append(("Redis 7", "not measured: Debian's package is not there"))
        try:
            beside = f"{_express(where, mint.sign(31_200 // 2 // share)):.0f} bytes"
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
    """The server's name and version, and bytes of each part of one logout."""
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
    """The server's name, and what each of ``count`` logouts takes of its memory."""
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
            told = client.info("server")
            name = "Valkey" if "valkey_version" in told else "Redis"
            version = told.get("valkey_version", told["redis_version"])
            return f"{name} {version}", (_used(server) - before) / count
    finally:
        server.stop()


def _used(server: RedisServer) -> int:
    """Without what clients that have just gone still hold, and without the smaller table from which
    keys are still being moved, for which a server that has nothing else to do takes seconds."""
    time.sleep(0.5)
    deadline = time.monotonic() + _REHASHING_SECONDS
    with server.client() as client:
        while (told := client.info("memory")).get("mem_overhead_db_hashtable_rehashing"):
            if time.monotonic() > deadline:
                raise NotMeasured("a hash table is being moved for too long")
            time.sleep(0.1)
        return int(told["used_memory"])


def _day(costs: Mapping[str, float]) -> tuple[str, str]:
    """Megabytes after one day, and after the thirty that markers live: the stream holds a
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


def _express(where: Stage, tokens: list[Token]) -> float:
    with express.running(where) as server:
        assert server.redis is not None
        check(server, tokens[:40])
        before = _used(server.redis)
        server.send(tokens)
        return (_used(server.redis) - before) / len(tokens)


# -- in the processes of the pool -----------------------------------------------------------


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def _fill(url: str, count: int, most_events: int, *, once: bool) -> None:
    asyncio.run(_write(url, count, most_events, once=once))


async def _write(url: str, count: int, most_events: int, *, once: bool) -> None:
    client = connect(url)
    store = Store(
        RedisTopology(client),
        apps={_APP: _MONTH},
        event_retention=7 * 86400,
        event_max_len=most_events,
        clock=time.time,
    )
    for first in range(0, count, _BATCH):
        some = [_revocation(once=once) for _ in range(min(_BATCH, count - first))]
        for _ in range(_TRIES):
            results = await store.write(some)
            if all(isinstance(result, int) for result in results):
                break
        else:
            raise NotMeasured(f"Redis does not take it: {results[0]}")
    await client.aclose()


def _revocation(*, once: bool) -> Revocation:
    """As the receiver builds it for an Auth0-like token with ``sid`` and ``sub``."""
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
