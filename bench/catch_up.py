"""A listener was away while a hundred thousand logouts came: it catches up, none is lost, and its
memory is flat.

The events are written as fast as one process can, in pipelines. The listener is a process of its
own, on the servers' core, with a handler that notes which session it was handed and does nothing.
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
from tests.support.redis_server import RedisServer

EVENTS = 100_000
APP = "shop"
KEYS = AppKeys(APP)

# Of the memory after a fifth of the storm: what it may still grow by is the allocator's noise.
FLAT = 0.10

_WRITTEN_AT_ONCE = 1000
_PATIENCE = 120.0

Mode = Literal["group", "broadcast"]
MODES: tuple[Mode, ...] = ("group", "broadcast")


@dataclass(frozen=True, slots=True)
class Caught:
    """What came of it. Times are seconds of ``time.perf_counter``, memory is bytes."""

    began: float
    ended: float
    missing: int
    again: int
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
                written, caught = _storm(server, mode, events)
            finally:
                server.stop()
            seconds = caught.ended - caught.began
            growth = caught.resident / caught.resident_after_a_fifth - 1
            rows.append(
                (
                    mode,
                    f"{events / written:,.0f}",
                    f"{seconds:.1f}",
                    f"{events / seconds:,.0f}",
                    f"{caught.again:,}",
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


def _storm(server: RedisServer, mode: Mode, events: int) -> tuple[float, Caught]:
    """Seconds that the writing took, and how the listener fared."""
    with server.client() as client:
        client.hset(KEYS.meta, mapping={"v": "1", "max_session_age": "3600"})
        [first] = _write(server, ["before"])
        # Where the process of this name was when it went away.
        client.set(KEYS.position("replica"), first)
        client.xgroup_create(KEYS.events, "replica", first)
    began = time.perf_counter()
    _write(server, [str(n) for n in range(events)])
    written = time.perf_counter() - began
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_main, args=(server.url, mode, events, theirs), daemon=True)
    with on_cores(cores()[0]):
        process.start()
    try:
        assert ours.poll(_PATIENCE), f"not caught up in {_PATIENCE:.0f} s"
        caught: Caught = ours.recv()
    finally:
        process.kill()
        process.join()
    return written, caught


def _write(server: RedisServer, sids: list[str]) -> list[str]:
    """An event for each session; their ids."""
    ids: list[str] = []
    with server.client() as client:
        for first in range(0, len(sids), _WRITTEN_AT_ONCE):
            pipeline = client.pipeline(transaction=False)
            for sid in sids[first : first + _WRITTEN_AT_ONCE]:
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


async def _catch_up(url: str, mode: Mode, events: int) -> Caught:
    seen = bytearray(events)  # its size does not change
    missing, again, gaps, after_a_fifth = events, 0, 0, 0
    async with AsyncListener(url, app=APP, mode=mode, name="replica") as listener:
        began = time.perf_counter()
        async for item in listener:
            if isinstance(item, Gap):
                gaps += 1
                continue
            n = int(item.sid or "")
            again += seen[n]
            missing -= not seen[n]
            seen[n] = 1
            if missing == events - events // 5 and not after_a_fifth:
                after_a_fifth = resident_bytes(os.getpid())
            if not missing or n == events - 1:
                break
        ended = time.perf_counter()
        return Caught(
            began, ended, missing, again, gaps, after_a_fifth, resident_bytes(os.getpid())
        )
