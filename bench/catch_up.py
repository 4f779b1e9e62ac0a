"""A listener that was down during a hundred thousand logouts catches up, loses none, and its memory
stays flat.

One process writes the events at full speed, in pipelines. The listener has its own process on the
servers' core, and a handler that only records which session it got.
"""

import asyncio
import multiprocessing
import os
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from backchannel_logout import AppKeys, AsyncListener, Event, EventKind, Gap
from bench.figures import table
from bench.machine import cores, on_cores, resident_bytes
from bench.report import Claim, Result
from tests.support.servers.redis_server import RedisServer

EVENTS = 100_000
APP = "shop"
KEYS = AppKeys(APP)

# Allowed growth of memory after the first fifth: the allocator's noise.
FLAT = 0.10

_BATCH = 1000
_PATIENCE = 120.0

Mode = Literal["group", "broadcast"]
MODES: tuple[Mode, ...] = ("group", "broadcast")


@dataclass(frozen=True, slots=True)
class CatchUp:
    """The listener's result. Times are seconds of ``time.perf_counter``, memory is bytes."""

    start: float
    end: float
    missing: int
    repeated: int
    gaps: int
    resident_after_a_fifth: int
    resident: int


def run(*, quick: bool) -> Result:
    events = 2000 if quick else EVENTS
    rows, claims = [], []
    with tempfile.TemporaryDirectory() as directory:
        for mode in MODES:
            with on_cores(cores()[1]):
                server = RedisServer(Path(directory) / mode).start()
            try:
                write_seconds, caught = _measure(server, mode, events)
            finally:
                server.stop()
            seconds = caught.end - caught.start
            growth = caught.resident / caught.resident_after_a_fifth - 1
            rows.append(
                (
                    mode,
                    f"{events / write_seconds:,.0f}",
                    f"{seconds:.1f}",
                    f"{events / seconds:,.0f}",
                    f"{caught.repeated:,}",
                    f"{caught.resident_after_a_fifth / 1e6:.1f}",
                    f"{caught.resident / 1e6:.1f}",
                )
            )
            claims += [
                Claim(
                    f"lost of {events:,} logouts by a listener that was away ({mode})",
                    "0",
                    f"{caught.missing:,}",
                    held=not caught.missing and not caught.gaps,
                ),
                Claim(
                    f"growth of its memory after a fifth of them ({mode})",
                    f"≤ {FLAT:.0%}",
                    f"{growth:.1%}",
                    held=growth <= FLAT,
                ),
            ]
    head = (
        "", "written, 1/s", "seconds to catch up", "events/s", "handled again",
        "RSS after a fifth, MB", "RSS at the end, MB",
    )  # fmt: skip
    return Result(table(head, rows), claims)


def _measure(server: RedisServer, mode: Mode, events: int) -> tuple[float, CatchUp]:
    """The seconds for writing, and the listener's result."""
    with server.client() as client:
        client.hset(KEYS.meta, mapping={"v": "1", "max_session_age": "3600"})
        [first] = _write(server, ["before"])
        # The position of the process of this name when it stopped.
        client.set(KEYS.position("replica"), first)
        client.xgroup_create(KEYS.events, "replica", first)
    start = time.perf_counter()
    _write(server, [str(n) for n in range(events)])
    write_seconds = time.perf_counter() - start
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_main, args=(server.url, mode, events, theirs), daemon=True)
    with on_cores(cores()[0]):
        process.start()
    try:
        assert ours.poll(_PATIENCE), f"not caught up in {_PATIENCE:.0f} s"
        caught: CatchUp = ours.recv()
    finally:
        process.kill()
        process.join()
    return write_seconds, caught


def _write(server: RedisServer, sids: list[str]) -> list[str]:
    """Writes an event for each session; returns their ids."""
    ids: list[str] = []
    with server.client() as client:
        for first in range(0, len(sids), _BATCH):
            pipeline = client.pipeline(transaction=False)
            for sid in sids[first : first + _BATCH]:
                event = Event(
                    kind=EventKind.SESSION,
                    iss="https://op.example/",
                    sid=sid,
                    sub=f"auth0|5f7c8ec7c33c6c{sid:>010}",
                    cutoff=int(time.time()),
                    app=APP,
                    source="backchannel-logout",
                    received_at=time.time(),
                )
                pipeline.xadd(KEYS.events, event.to_fields())
            ids += pipeline.execute()
    return ids


# -- in the listener's process --------------------------------------------------------------


def _main(url: str, mode: Mode, events: int, pipe: Connection) -> None:
    pipe.send(asyncio.run(_catch_up(url, mode, events)))


async def _catch_up(url: str, mode: Mode, events: int) -> CatchUp:
    seen = bytearray(events)  # its size does not change
    missing, repeated, gaps, after_a_fifth = events, 0, 0, 0
    async with AsyncListener(url, app=APP, mode=mode, name="replica") as listener:
        start = time.perf_counter()
        async for item in listener:
            if isinstance(item, Gap):
                gaps += 1
                continue
            n = int(item.sid or "")
            repeated += seen[n]
            missing -= not seen[n]
            seen[n] = 1
            if missing == events - events // 5 and not after_a_fifth:
                after_a_fifth = resident_bytes(os.getpid())
            if not missing or n == events - 1:
                break
        end = time.perf_counter()
        return CatchUp(
            start, end, missing, repeated, gaps, after_a_fifth, resident_bytes(os.getpid())
        )
