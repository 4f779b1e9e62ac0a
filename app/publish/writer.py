"""Write, or journal, and only then acknowledge: the one way from a revocation to a 200."""

import asyncio
from collections.abc import Callable, Sequence
from enum import StrEnum

from app.errors import DependencyUnavailable, Outage
from app.journal.ack_log import AckLog
from app.journal.append import JournalFault
from app.journal.journal import Journal
from app.log import new_log
from app.publish.quota import Quota
from app.revocation import Revocation
from app.store.batching import BatchedWrites, Gathering
from app.store.errors import RedisFault, RevocationRefused
from app.store.monitor import RedisMonitor
from app.store.store import NEW_MARKER, Result
from app.store.topology import REDIS_SECONDS

log = new_log(__name__)

# Kept of a request's time for the journal, where there is one: an fsync of a busy disk.
JOURNAL_SECONDS = 0.3

# However late it is: a Redis that is well needs a millisecond.
_LEAST_REDIS_SECONDS = 0.05


class Written(StrEnum):
    """Where one message's revocations are now; each is durable. Log field and metric label."""

    ACCEPTED = "accepted"
    """In Redis; at least one was new."""
    JOURNALED = "journaled"
    """In the journal, at least one of them, until Redis takes it."""
    REPEATED = "repeated"
    """They were there already."""


class Writer:
    """For every source. ``journal`` None: what Redis does not take is not accepted."""

    def __init__(
        self,
        writes: BatchedWrites,
        watch: RedisMonitor,
        journal: Journal | None,
        accepted: AckLog,
        quota: Quota,
        on_written: Callable[[Revocation, int], None] = lambda _, __: None,
    ) -> None:
        """``on_written`` is told of each that Redis has taken, with the script's answer."""
        self._writes = writes
        self._watch = watch
        self._journal = journal
        self._accepted = accepted
        self._quota = quota
        self._on_written = on_written

    def gather(self, gathering: Gathering) -> None:
        """Have ``gathering`` hold while results are told together, and release after the copy."""
        self._writes.gatherings.append(gathering)

    async def write(self, revocations: Sequence[Revocation], *, until: float) -> Written:
        """Write one revocation for each relying app concerned; all of them are tried.

        ``until`` is in the event loop's time. Raises `DependencyUnavailable` when one is durable
        nowhere: the sender's repetition is then new for that app and a repetition for the
        others.
        """
        if len(revocations) == 1:
            return await self._write_one(revocations[0], until)
        results = await asyncio.gather(
            *(self._write_one(revocation, until) for revocation in revocations),
            return_exceptions=True,
        )
        faults = [result for result in results if isinstance(result, BaseException)]
        for fault in faults:
            if not isinstance(fault, DependencyUnavailable):
                raise fault
        if faults:
            raise faults[0]
        by_news = (Written.JOURNALED, Written.ACCEPTED, Written.REPEATED)
        return next(written for written in by_news if written in results)

    async def _write_one(self, revocation: Revocation, until: float) -> Written:
        journal = self._journal
        self._quota.spend(revocation.app)
        if journal is not None and self._watch.down(revocation.app):
            # Asking again would only cost the request its time: the watch asks each second.
            return await self._keep(journal, revocation, None)
        now = asyncio.get_running_loop().time()
        try:
            answer = await self._writes.write(revocation, until=self._until(until, now))
        except RedisFault as fault:
            return await self.write_failed(revocation, fault, given=until - now)
        return self.written(revocation, answer)

    def begin(
        self, revocation: Revocation, *, now: float, until: float, done: Callable[[Result], None]
    ) -> bool:
        """`write` of one revocation to Redis alone, without a task.

        ``now`` and ``until`` are in the event loop's time. ``done`` is told later, once, what is
        for `written` or `write_failed`. False where Redis is known to be away: then nothing has
        begun. Raises `DependencyUnavailable` with `QUOTA`.
        """
        app = revocation.heading.app
        if self._journal is not None and self._watch.down(app):
            return False
        self._quota.spend(app)
        self._writes.begin(revocation, until=self._until(until, now), done=done)
        return True

    def _until(self, until: float, now: float) -> float:
        """When Redis must have answered, of a request that ends ``until``."""
        if self._journal is not None:
            until = max(until - JOURNAL_SECONDS, now + _LEAST_REDIS_SECONDS)
        return min(until, now + REDIS_SECONDS)

    async def write_failed(
        self, revocation: Revocation, fault: RedisFault, *, given: float
    ) -> Written:
        """Redis has not taken it within the ``given`` seconds: the journal does, or it raises
        `DependencyUnavailable`."""
        journal, app = self._journal, revocation.app
        log.warning("redis", outcome="failed", app=app, error=str(fault))
        if isinstance(fault, RevocationRefused):
            # Kept for the operator who mends it; but nothing will write it by itself soon.
            if journal is not None:
                await self._keep(journal, revocation, str(fault))
        else:
            # A request that came late to Redis, or behind others that wait for their level of
            # durability, says nothing of Redis.
            late = given <= REDIS_SECONDS or self._writes.waits_for_level
            if not late or str(fault) != "timeout":
                self._watch.failed(app, fault)
            if journal is not None:
                return await self._keep(journal, revocation, None)
        raise DependencyUnavailable(Outage.REDIS_UNAVAILABLE) from fault

    def written(self, revocation: Revocation, answer: int) -> Written:
        """Redis has taken it, and this is the script's answer."""
        if answer != NEW_MARKER:
            self._quota.give_back(revocation.app)
        self._watch.level_error = None
        # Also what was there: whose write it was may not have had the answer.
        self._accepted.add(revocation)
        self._on_written(revocation, answer)
        return Written.ACCEPTED if answer else Written.REPEATED

    @staticmethod
    async def _keep(journal: Journal, revocation: Revocation, refused: str | None) -> Written:
        try:
            new = await journal.append(revocation, refused=refused)
        except JournalFault as fault:
            log.error("journal", outcome="failed", app=revocation.app, error=str(fault))
            raise DependencyUnavailable(Outage.REDIS_UNAVAILABLE) from fault
        return Written.JOURNALED if new else Written.REPEATED
