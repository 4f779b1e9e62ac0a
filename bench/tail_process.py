"""Many tails of guards in one process: plain connections that send the commands of a tail at the
same times (`backchannel_logout.near.tail`), and read only the position from the answers.

It runs at the lowest priority, because it shares a core with a server.
"""

import asyncio
import functools
import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import hiredis
import uvloop

from backchannel_logout import AppKeys
from backchannel_logout.checker import RevocationChecker
from backchannel_logout.contract.readers import ReaderKind
from backchannel_logout.near.cache import NearCache
from backchannel_logout.near.event_reader import MAX_EVENTS, EventReader
from backchannel_logout.near.reports import Reports
from backchannel_logout.near.tail import MAX_BLOCKING_READERS, READ_EVERY

# Seconds of a tail with the default timeout: in `XREAD BLOCK`, and from its answer to the next
# read.
_WAIT, _GATHER = 0.25, 0.01

_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class TailProcess:
    """A process with reading tails."""

    pid: int
    _pipe: Connection

    def reads(self) -> int:
        """The number of answered reads since the last call."""
        self._pipe.send(True)
        assert self._pipe.poll(_PATIENCE), "the tails do not answer"
        count: int = self._pipe.recv()
        return count


@contextmanager
def running_tails(port: int, app: str, count: int, *, all_wait: bool) -> Iterator[TailProcess]:
    """``count`` tails of the app, once each has an answer, on the core of this thread.

    Like guards, up to 50 block in Redis, and with more none does. ``all_wait``: all of them.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    waits = all_wait or count <= MAX_BLOCKING_READERS
    process = spawn.Process(target=_main, args=(port, app, count, waits, theirs), daemon=True)
    process.start()
    assert process.pid is not None
    try:
        assert ours.poll(_PATIENCE), "the tails do not start"
        ours.recv()
        yield TailProcess(process.pid, ours)
    finally:
        process.kill()
        process.join()


# -- in the other process -------------------------------------------------------------------


def _main(port: int, app: str, count: int, waits: bool, pipe: Connection) -> None:
    os.nice(19)
    uvloop.run(_follow(port, app, count, waits, pipe))


async def _follow(port: int, app: str, count: int, waits: bool, pipe: Connection) -> None:
    loop, keys = asyncio.get_running_loop(), AppKeys(app)
    tails = []
    for _ in range(count):
        _, tail = await loop.create_connection(
            functools.partial(_Tail, loop, keys, waits=waits), "127.0.0.1", port
        )
        tails.append(tail)
    while not all(tail.reads for tail in tails):
        await asyncio.sleep(0.05)
    pipe.send("all of them read")
    reported = sum(tail.reads for tail in tails)
    while await loop.run_in_executor(None, pipe.recv):
        now = sum(tail.reads for tail in tails)
        pipe.send(now - reported)
        reported = now


class _Tail(asyncio.Protocol):
    """One connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, keys: AppKeys, *, waits: bool) -> None:
        self._loop = loop
        self._waits = waits
        reading = RevocationChecker(keys.app, "deny", None, time.time)
        self._following = EventReader(keys, reading, NearCache(1, max_stale=5))
        self._reports = Reports(keys.readers, ReaderKind.CACHE)
        self._answers: list[Any] = []
        self._parser = hiredis.Reader()
        self._expected = 0
        self.reads = -1  # the first answers are no read

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport
        self._send(self._following.first())

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        while (answer := self._parser.gets()) is not False:
            self._answers.append(answer)
        if len(self._answers) < self._expected:
            return
        answers, self._answers = self._answers, []
        self.reads += 1
        if self.reads == 0:
            self._following.begin(answers)
            self._loop.call_later(random.uniform(0, READ_EVERY), self._read)  # noqa: S311
            return
        self._reports.process(answers[5:])
        entries = answers[0][0][1] if answers[0] else []
        if entries:
            self._following.position = entries[-1][0].decode()
        if len(entries) >= MAX_EVENTS:
            self._read()
            return
        pause = _GATHER if self._waits else READ_EVERY * random.uniform(0.8, 1.2)  # noqa: S311
        self._loop.call_later(pause, self._read)

    def _read(self) -> None:
        position = self._following.position
        self._send(
            [*self._following.next(_WAIT if self._waits else 0), *self._reports.due(position)]
        )

    def _send(self, commands: list[tuple[Any, ...]]) -> None:
        self._expected = len(commands)
        self._transport.write(b"".join(hiredis.pack_command(command) for command in commands))
