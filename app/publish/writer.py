"""The one path from a revocation to a 200: Redis, else the journal, and only then acknowledge.

submit -> Redis (batched) -> copy, count, done
                or journal -> done
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, cast

from app.errors import DependencyUnavailable, Outage, fault_of
from app.journal.ack_log import AckLog
from app.journal.journal import Journal, JournalFault
from app.log import new_log
from app.publish.quota import Quota
from app.revocation import Revocation
from app.store.app_faults import QUOTA
from app.store.batching import BatchedWrites, PendingWrite
from app.store.errors import RedisFault, RevocationRefused
from app.store.monitor import RedisMonitor
from app.store.store import NEW_MARKER, Result, Store
from app.store.topology import REDIS_SECONDS

log = new_log(__name__)

# Reserved from a request's time for one fsync of the journal on a busy disk.
JOURNAL_SECONDS = 0.3

# Redis always gets this long; a healthy one needs a millisecond.
_MIN_REDIS_SECONDS = 0.05


class Written(StrEnum):
    """Where the revocations of one message are now; each is durable. Log field and metric label."""

    ACCEPTED = "accepted"
    """In Redis; at least one was new."""
    JOURNALED = "journaled"
    """At least one is in the journal until Redis takes it."""
    REPEATED = "repeated"
    """All of them were there already."""


Done = Callable[[Written | Exception], None]
"""Receives the outcome, once: `DependencyUnavailable`, or an unexpected error. Must not raise: the
others of the batch must get theirs."""


@dataclass(slots=True, eq=False)
class _Write(PendingWrite):
    """A write, and the request behind it."""

    done: Done
    deadline: float
    """Of the request, in the event loop's time; ``until`` is Redis' share of it."""
    late: bool
    """Its time is too short to conclude anything about Redis."""


class Writer:
    """Writes revocations of every source. ``journal`` None: only Redis makes them durable."""

    def __init__(
        self,
        store: Store,
        monitor: RedisMonitor,
        journal: Journal | None,
        ack_log: AckLog,
        quota: Quota,
        on_written: Callable[[Revocation, int], None] = lambda _, __: None,
    ) -> None:
        """``on_written`` is called for each revocation in Redis, with the script's answer."""
        self._writes = BatchedWrites(store, self._on_batch)
        self._monitor = monitor
        self._journal = journal
        self._ack_log = ack_log
        self._quota = quota
        self._on_written = on_written
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, revocation: Revocation, *, until: float, done: Done) -> PendingWrite:
        """Write one revocation, to the journal where Redis does not take it; then call ``done``.

        ``until`` is in the event loop's time. Raises `DependencyUnavailable` with `QUOTA`.
        """
        now = asyncio.get_running_loop().time()
        app = revocation.heading.app
        if not self._quota[app].take():
            self._monitor.app_faults.write_refused(app, QUOTA)
            raise DependencyUnavailable(Outage.QUOTA)
        journal = self._journal
        redis_until = until
        if journal is not None:
            redis_until = max(until - JOURNAL_SECONDS, now + _MIN_REDIS_SECONDS)
        write = _Write(
            revocation, min(redis_until, now + REDIS_SECONDS), done, until,
            late=until - now <= REDIS_SECONDS or self._writes.waits_for_level,
        )  # fmt: skip
        if journal is not None and self._monitor.down(app):
            # Another try would only cost the request its time: the monitor tries every second.
            self._start(self._keep(write, journal))
        else:
            self._writes.submit(write)
        return write

    async def write(self, revocations: Sequence[Revocation], *, until: float) -> Written:
        """Write one revocation for each relying app concerned; all of them are tried.

        ``until`` is in the event loop's time. Raises `DependencyUnavailable` if one of them is
        durable nowhere: the sender's retry is then new for that app and a repetition for the
        others.
        """
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Written | Exception]] = []
        writes: list[PendingWrite] = []
        try:
            for revocation in revocations:
                futures.append(future := loop.create_future())
                done = partial(_resolve, future)
                try:
                    writes.append(self.submit(revocation, until=until, done=done))
                except DependencyUnavailable as fault:
                    future.set_result(fault)
            outcomes = [await future for future in futures]
        finally:
            for write in writes:
                self._writes.abandon(write)
        faults = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if faults:
            bugs = [fault for fault in faults if not isinstance(fault, DependencyUnavailable)]
            raise (bugs or faults)[0]
        newest_first = (Written.JOURNALED, Written.ACCEPTED, Written.REPEATED)
        return next(written for written in newest_first if written in outcomes)

    async def aclose(self) -> None:
        """Wait for the writes in progress."""
        await self._writes.aclose()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _on_batch(self, results: Sequence[tuple[PendingWrite, Result]]) -> None:
        """Keep the copy, count, answer, in this order: every answered revocation is in the copy."""
        unkept = self._copy([write for write, result in results if isinstance(result, int)])
        for pending, result in results:
            write = cast("_Write", pending)
            outcome: Written | Exception | None
            try:
                if isinstance(result, RedisFault):
                    outcome = self._failed(write, result)
                else:
                    outcome = unkept.get(pending) or self._acknowledged(write.revocation, result)
            except BaseException as error:  # noqa: BLE001  `done` gets it
                outcome = fault_of(error)
            if outcome is not None:
                write.done(outcome)

    def _copy(self, writes: Sequence[PendingWrite]) -> dict[PendingWrite, Exception]:
        """Keep acknowledged writes in the copy, with one system call. Returns the failures."""
        if not writes:
            return {}
        try:
            self._ack_log.add_many([write.revocation for write in writes])
            return {}
        except Exception as error:  # noqa: BLE001  its request gets it
            if len(writes) == 1:
                return {writes[0]: error}
            # A bug with one of them must not fail the others.
            return {failed: why for write in writes for failed, why in self._copy([write]).items()}

    def _acknowledged(self, revocation: Revocation, answer: int) -> Written:
        """Count what Redis has taken."""
        if answer != NEW_MARKER:
            self._quota[revocation.heading.app].give_back()
        self._monitor.level_error = None
        self._monitor.app_faults.written(revocation.heading.app)
        self._on_written(revocation, answer)
        return Written.ACCEPTED if answer else Written.REPEATED

    def _failed(self, write: _Write, fault: RedisFault) -> DependencyUnavailable | None:
        """Fall back to the journal; the outcome if there is none."""
        journal, app = self._journal, write.revocation.app
        log.warning("redis", outcome="failed", app=app, error=str(fault))
        refused = isinstance(fault, RevocationRefused)
        # A write which came late, or waited with others for its level of durability, says
        # nothing about Redis.
        if not (write.late and str(fault) == "timeout"):
            self._monitor.failed(app, fault)
        if journal is None:
            return DependencyUnavailable(Outage.REDIS_UNAVAILABLE)
        self._start(self._keep(write, journal, str(fault) if refused else None))
        return None

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, write: _Write, journal: Journal, refused: str | None = None) -> None:
        """Append to the journal and report the outcome.

        ``refused``: why Redis refuses this revocation. It is kept for the operator who repairs
        that, and not acknowledged, since nothing will write it soon.
        """
        outcome: Written | Exception = DependencyUnavailable(Outage.REDIS_UNAVAILABLE)
        try:
            async with asyncio.timeout_at(write.deadline):
                new = await journal.append(write.revocation, refused=refused)
            if refused is None:
                outcome = Written.JOURNALED if new else Written.REPEATED
        except JournalFault as fault:
            log.error("journal", outcome="failed", app=write.revocation.app, error=str(fault))
        except TimeoutError:
            outcome = DependencyUnavailable(Outage.DEADLINE)
        except Exception as error:  # noqa: BLE001  its request gets it
            outcome = error
        write.done(outcome)


def _resolve(future: "asyncio.Future[Written | Exception]", outcome: Written | Exception) -> None:
    with suppress(asyncio.InvalidStateError):  # the request has given up
        future.set_result(outcome)
