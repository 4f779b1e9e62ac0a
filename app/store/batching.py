"""Writes of concurrent requests, grouped into few round trips.

A request's write starts at once where no other is under way; what arrives meanwhile goes
together in the next round trip. The exchange with Redis runs in a task of its own: a request
that gives up cancels nothing, so that no answer is ever read by somebody else. What each result
brings about, and what costs a system call (copy, log), is gathered and done once for the group.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from app.log import new_log
from app.revocation import Revocation
from app.store.errors import RedisAway, RedisFault, RedisUnwilling
from app.store.pipeline import CommandPipeline
from app.store.store import Result, Store

log = new_log(__name__)

# Round trips under way to one server: while Redis works on one, the next one is made. More only
# make the groups smaller; a level of durability that is waited for holds each of them for longer.
LANES = 2
WAITING_LANES = 8

# One group's script runs hold up every other client of that server for some 10 ms.
LARGEST_GROUP = 256

# A lane that has nothing to do waits for this long, with its connection, before it ends: under load
# the next group comes within milliseconds, and to begin anew for each takes a fortieth of a logout.
LINGER_SECONDS = 0.1

# A restart or a failover refuses connections for a moment; the script may run twice.
RETRY_PAUSE = 0.05


class Gathering(Protocol):
    """What is done for all results of a group at once. Neither of the two ever fails."""

    def hold(self) -> None:
        """From here on gather."""

    def release(self) -> None:
        """Do what was gathered."""


@dataclass(slots=True, eq=False)
class PendingWrite:
    """One request's write. ``until`` is in the event loop's time."""

    revocation: Revocation
    until: float
    done: Callable[[Result], None] | None
    """Is told the result; None when it has been, or nobody waits any more."""
    tried: bool = False

    def settle(self, result: Result) -> None:
        done, self.done = self.done, None
        if done is not None:
            try:
                done(result)
            except Exception:
                # Those who wait in the same group must have their answers.
                log.exception("redis", outcome="failed", error="internal")


class _Deadlines:
    """When each write gives up: one timer, for the one that is due first.

    A timer for each costs more than all of the bookkeeping here, and hardly one ever rings.
    """

    def __init__(self) -> None:
        self._pending: dict[PendingWrite, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf

    def add(self, waiting: PendingWrite) -> None:
        self._pending[waiting] = None
        if waiting.until < self._due:
            self._wake_at(waiting.until)

    def remove(self, waiting: PendingWrite) -> None:
        self._pending.pop(waiting, None)

    def _wake_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = asyncio.get_running_loop().call_at(due, self._ring)

    def _ring(self) -> None:
        now = asyncio.get_running_loop().time()
        self._timer, self._due = None, math.inf
        for waiting in [one for one in self._pending if one.until <= now]:
            self.remove(waiting)
            waiting.settle(RedisAway("timeout"))
        if self._pending:
            self._wake_at(min(waiting.until for waiting in self._pending))


@dataclass(slots=True)
class _Queue:
    """What waits for one server."""

    waiting: deque[PendingWrite] = field(default_factory=deque)
    lanes: set[asyncio.Task[None]] = field(default_factory=set)
    idle: list[asyncio.Future[bool]] = field(default_factory=list)
    """Lanes that have nothing to do: told True they look again, told False they end."""
    called: bool = False
    """A lane is about to look."""


class BatchedWrites:
    """Hands revocations to the store, many at once.

    ``gatherings`` hold while the results of a group are told, and release in their order: what must
    be done before an answer goes out stands before who sends it.
    """

    def __init__(self, store: Store, gatherings: Sequence[Gathering] = ()) -> None:
        self._store = store
        self.gatherings = list(gatherings)
        self._lines: dict[str, _Queue] = {}
        self._closing = False
        self._deadlines = _Deadlines()
        self.waits_for_level = store.level != "memory"
        self._most = WAITING_LANES if self.waits_for_level else LANES

    async def write(self, revocation: Revocation, *, until: float) -> int:
        """Write one revocation; try again while connections fail at once and time is left.

        Returns the script's answer. Raises `RedisFault`; then it may have been written or not.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        waiting = self.begin(revocation, until=until, done=future.set_result)
        try:
            # Whoever is cancelled here cancels this future alone, never the exchange.
            result = await future
        finally:
            waiting.done = None
            self._deadlines.remove(waiting)
        if isinstance(result, RedisFault):
            raise result
        return result

    def begin(
        self, revocation: Revocation, *, until: float, done: Callable[[Result], None]
    ) -> PendingWrite:
        """`write`, which tells ``done`` the result, later and once."""
        waiting = PendingWrite(revocation, until, done)
        self._enqueue(waiting)
        self._deadlines.add(waiting)
        return waiting

    def _enqueue(self, waiting: PendingWrite) -> None:
        if waiting.done is None:
            return
        place = self._store.link.place(waiting.revocation.heading.app)
        line = self._lines.get(place)
        if line is None:
            line = self._lines[place] = _Queue()
        line.waiting.append(waiting)
        if not line.called:
            self._call(line)

    def _call(self, line: _Queue) -> None:
        """Have a lane look at what waits, if one has nothing to do or may begin."""
        if line.idle:
            line.called = True
            line.idle.pop().set_result(True)
        elif len(line.lanes) < self._most:
            line.called = True
            line.lanes.add(asyncio.create_task(self._run(line)))

    async def _run(self, line: _Queue) -> None:
        """One lane: group after group, until nothing has waited for a while."""
        following = CommandPipeline()
        try:
            while group := self._next_group(line) or await self._later_group(line, following):
                results = await self._exchange(group, following)
                if RedisAway in map(type, results):
                    await self._store.link.look_up_soon()
                self._tell(group, results)
                # What has come meanwhile is read first: it goes with the next group.
                await asyncio.sleep(0)
        finally:
            # In the same step as the last look at what waits: a lane that has ended must not
            # keep the next one from beginning.
            line.called = False
            line.lanes.discard(cast("asyncio.Task[None]", asyncio.current_task()))
            await following.give_back()

    async def _later_group(self, line: _Queue, following: CommandPipeline) -> list[PendingWrite]:
        """Nothing waits: what does within a while, or when others can have the connection."""
        while not self._closing and await self._is_called(line):
            if group := self._next_group(line):
                return group
        await following.give_back()
        return self._next_group(line)

    @staticmethod
    async def _is_called(line: _Queue) -> bool:
        """Whether there is something to look at, within `LINGER_SECONDS`."""
        loop = asyncio.get_running_loop()
        idle: asyncio.Future[bool] = loop.create_future()

        def end() -> None:
            if idle in line.idle:  # else it has been called in the same turn
                line.idle.remove(idle)
                idle.set_result(False)

        timer = loop.call_later(LINGER_SECONDS, end)
        line.idle.append(idle)
        try:
            return await idle
        finally:
            timer.cancel()
            if idle in line.idle:  # cancelled
                line.idle.remove(idle)

    async def _exchange(
        self, group: list[PendingWrite], following: CommandPipeline
    ) -> list[Result]:
        try:
            revocations = [waiting.revocation for waiting in group]
            return await self._store.write(revocations, following=following)
        except Exception:
            # A fault of ours must not leave those who wait without an answer.
            log.exception("redis", outcome="failed", error="internal")
            return [RedisUnwilling("internal")] * len(group)

    def _tell(self, group: list[PendingWrite], results: list[Result]) -> None:
        for gathering in self.gatherings:
            gathering.hold()
        try:
            for waiting, result in zip(group, results, strict=True):
                if waiting.done is None or (
                    isinstance(result, RedisAway) and self._tries_again(waiting)
                ):
                    continue
                self._deadlines.remove(waiting)
                # Seen before, and tried before: by all appearance in the try whose answer was lost.
                waiting.settle(1 if result == 0 and waiting.tried else result)
        finally:
            for gathering in self.gatherings:
                gathering.release()

    def _tries_again(self, waiting: PendingWrite) -> bool:
        """Whether there is time for it."""
        loop = asyncio.get_running_loop()
        if loop.time() + RETRY_PAUSE >= waiting.until:
            return False
        waiting.tried = True
        loop.call_later(RETRY_PAUSE, self._enqueue, waiting)
        return True

    def _next_group(self, line: _Queue) -> list[PendingWrite]:
        line.called = False
        group: list[PendingWrite] = []
        while line.waiting and len(group) < LARGEST_GROUP:
            waiting = line.waiting.popleft()
            if waiting.done is not None:  # else its request has given up
                group.append(waiting)
        if line.waiting:
            self._call(line)
        return group

    async def aclose(self) -> None:
        """Wait for the exchanges under way."""
        self._closing = True
        for line in self._lines.values():
            while line.idle:
                line.idle.pop().set_result(False)
        lanes = [lane for line in self._lines.values() for lane in line.lanes]
        await asyncio.gather(*lanes, return_exceptions=True)
