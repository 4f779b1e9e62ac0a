"""Sends the writes of concurrent requests to Redis in few round trips.

A write starts at once if no round trip is in progress; what arrives meanwhile goes together in the
next one. Round trips run in tasks of their own, the flushers: a request that gives up cancels
nothing, so no request ever reads the reply to another's write. All results of a round trip are
handed over as one list, so that what costs a system call can be done once.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from app.log import new_log
from app.revocation import Revocation
from app.store.errors import RedisAway, RedisUnwilling
from app.store.store import Result, Store
from backchannel_logout.redis.pipeline import ReusedPipelines

log = new_log(__name__)

# Round trips to one server at the same time: while Redis runs one, the next is prepared. More would
# only make batches smaller. Waiting for a level of durability holds each of them longer.
FLUSHERS = 2
FLUSHERS_THAT_WAIT = 8

# Where a round trip takes longer, a write that has waited this long for one to end gets another
# flusher: a request has no time for two of them.
SLOW_SECONDS = 0.05

# The scripts of one batch block every other client of that server for some 10 ms.
MAX_BATCH = 256

# How long an idle flusher keeps its connection. Under load the next batch comes within
# milliseconds, and a new flusher for each costs a fortieth of a logout.
IDLE_SECONDS = 0.1

# A restart or a failover refuses connections for a moment; the script may run twice.
RETRY_PAUSE = 0.05


@dataclass(slots=True, eq=False)
class PendingWrite:
    """One write. ``until``, in the event loop's time, is when it fails with ``timeout``."""

    revocation: Revocation
    until: float
    tried: bool = field(default=False, init=False)
    settled: bool = field(default=False, init=False)
    """It has its result, or its request has given up."""


OnBatch = Callable[[Sequence[tuple[PendingWrite, Result]]], None]
"""Receives the results of a batch, each write once in its life. Must not raise."""


class _Deadlines:
    """Fails writes whose time is up, with one timer for the earliest.

    A timer for each write costs more than everything else here, and hardly one ever fires.
    """

    def __init__(self, on_expired: Callable[[list[PendingWrite]], None]) -> None:
        self._on_expired = on_expired
        self._pending: dict[PendingWrite, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf

    def add(self, write: PendingWrite) -> None:
        self._pending[write] = None
        if write.until < self._due:
            self._schedule(write.until)

    def remove(self, write: PendingWrite) -> None:
        self._pending.pop(write, None)

    def _schedule(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = asyncio.get_running_loop().call_at(due, self._expire)

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        self._timer, self._due = None, math.inf
        expired = [write for write in self._pending if write.until <= now]
        for write in expired:
            self.remove(write)
        if self._pending:
            self._schedule(min(write.until for write in self._pending))
        self._on_expired(expired)


@dataclass(slots=True)
class _Queue:
    """The writes and flushers of one server."""

    place: str
    writes: deque[PendingWrite] = field(default_factory=deque)
    flushers: set[asyncio.Task[None]] = field(default_factory=set)
    idle: list[asyncio.Future[bool]] = field(default_factory=list)
    """Flushers without work: True wakes one up, False ends it."""
    woken: bool = False
    """A flusher is about to look at the writes."""
    slow: asyncio.TimerHandle | None = None
    """Looks after `SLOW_SECONDS` whether the first write still waits."""


class BatchedWrites:
    """Hands revocations to the store, many at once."""

    def __init__(self, store: Store, on_batch: OnBatch) -> None:
        self._store = store
        self._on_batch = on_batch
        self._queues: dict[str, _Queue] = {}
        self._closing = False
        self._deadlines = _Deadlines(self._expired)
        self.waits_for_level = store.level != "memory"
        self._max_flushers = FLUSHERS_THAT_WAIT if self.waits_for_level else FLUSHERS

    def submit(self, write: PendingWrite) -> None:
        """Write a revocation, trying again while connections fail at once and time is left."""
        self._enqueue(write)
        self._deadlines.add(write)

    def abandon(self, write: PendingWrite) -> None:
        """Drop a write whose result no longer matters; Redis may still have taken it."""
        write.settled = True
        self._deadlines.remove(write)

    async def aclose(self) -> None:
        """Wait for the round trips in progress."""
        self._closing = True
        for queue in self._queues.values():
            if queue.slow is not None:
                queue.slow.cancel()
            while queue.idle:
                queue.idle.pop().set_result(False)
        flushers = [flusher for queue in self._queues.values() for flusher in queue.flushers]
        await asyncio.gather(*flushers, return_exceptions=True)

    def _enqueue(self, write: PendingWrite) -> None:
        if write.settled:
            return
        link = self._store.link
        server = "" if link.only is not None else link.place(write.revocation.heading.app)
        queue = self._queues.get(server)
        if queue is None:
            queue = self._queues[server] = _Queue(server)
        queue.writes.append(write)
        if not queue.woken:
            self._wake(queue)

    def _wake(self, queue: _Queue) -> None:
        """Have an idle flusher, or a new one, look at the writes."""
        if queue.idle:
            queue.woken = True
            queue.idle.pop().set_result(True)
        elif len(queue.flushers) < self._max_flushers:
            self._start(queue)
        elif self._store.link.round_trips.get(queue.place, 0.0) > SLOW_SECONDS:
            self._start_soon(queue)

    def _start_soon(self, queue: _Queue) -> None:
        if queue.slow is None and len(queue.flushers) < FLUSHERS_THAT_WAIT:
            loop = asyncio.get_running_loop()
            queue.slow = loop.call_later(SLOW_SECONDS, self._if_slow, queue, queue.writes[0])

    def _start(self, queue: _Queue) -> None:
        queue.woken = True
        queue.flushers.add(asyncio.create_task(self._flush(queue)))

    def _if_slow(self, queue: _Queue, first: PendingWrite) -> None:
        """Start another flusher if the write is still the first one that waits."""
        queue.slow = None
        if self._closing or queue.woken or not queue.writes:
            return
        if queue.writes[0] is first:
            self._start(queue)
        else:
            self._wake(queue)

    async def _flush(self, queue: _Queue) -> None:
        """A flusher: batch after batch, until there has been nothing to write for a while."""
        pipeline = ReusedPipelines()
        try:
            while batch := self._next_batch(queue) or await self._later_batch(queue, pipeline):
                results = await self._write(batch, pipeline)
                if RedisAway in map(type, results):
                    await self._store.link.look_up_soon()
                self._settle(batch, results)
                # Requests that arrived meanwhile are read first: they join the next batch.
                await asyncio.sleep(0)
        finally:
            # In the same step as the last look at the queue: a flusher that has ended must not
            # keep the next one from starting.
            queue.woken = False
            queue.flushers.discard(cast("asyncio.Task[None]", asyncio.current_task()))
            await pipeline.release()

    async def _later_batch(self, queue: _Queue, pipeline: ReusedPipelines) -> list[PendingWrite]:
        """The next writes within a while; empty once the connection is given back."""
        while not self._closing and await self._is_woken(queue):
            if batch := self._next_batch(queue):
                return batch
        await pipeline.release()
        return self._next_batch(queue)

    @staticmethod
    async def _is_woken(queue: _Queue) -> bool:
        """Whether there is something to look at within `IDLE_SECONDS`."""
        loop = asyncio.get_running_loop()
        idle: asyncio.Future[bool] = loop.create_future()

        def end() -> None:
            if idle in queue.idle:  # else it was woken up in the same turn
                queue.idle.remove(idle)
                idle.set_result(False)

        timer = loop.call_later(IDLE_SECONDS, end)
        queue.idle.append(idle)
        try:
            return await idle
        finally:
            timer.cancel()
            if idle in queue.idle:  # cancelled
                queue.idle.remove(idle)

    def _next_batch(self, queue: _Queue) -> list[PendingWrite]:
        queue.woken = False
        batch: list[PendingWrite] = []
        while queue.writes and len(batch) < MAX_BATCH:
            write = queue.writes.popleft()
            if not write.settled:
                batch.append(write)
        if queue.writes:
            self._wake(queue)
        return batch

    async def _write(self, batch: list[PendingWrite], pipeline: ReusedPipelines) -> list[Result]:
        try:
            revocations = [write.revocation for write in batch]
            return await self._store.write(revocations, pipeline=pipeline)
        except Exception:
            # A bug of ours must not leave a request without an answer.
            log.exception("redis", outcome="failed", error="internal")
            return [RedisUnwilling("internal")] * len(batch)

    def _settle(self, batch: list[PendingWrite], results: list[Result]) -> None:
        settled: list[tuple[PendingWrite, Result]] = []
        for write, result in zip(batch, results, strict=True):
            if write.settled or (isinstance(result, RedisAway) and self._tries_again(write)):
                continue
            self._deadlines.remove(write)
            write.settled = True
            # Seen before and tried before: probably by the try whose reply was lost.
            settled.append((write, 1 if result == 0 and write.tried else result))
        if settled:
            self._hand_over(settled)

    def _expired(self, writes: list[PendingWrite]) -> None:
        for write in writes:
            write.settled = True
        if writes:
            self._hand_over([(write, RedisAway("timeout")) for write in writes])

    def _hand_over(self, results: list[tuple[PendingWrite, Result]]) -> None:
        try:
            self._on_batch(results)
        except Exception:
            # The flusher serves others, too.
            log.exception("redis", outcome="failed", error="internal")

    def _tries_again(self, write: PendingWrite) -> bool:
        """Schedule another try, if there is time for it."""
        loop = asyncio.get_running_loop()
        if loop.time() + RETRY_PAUSE >= write.until:
            return False
        write.tried = True
        loop.call_later(RETRY_PAUSE, self._enqueue, write)
        return True
