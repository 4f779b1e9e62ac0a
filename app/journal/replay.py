"""Writes the journal's entries to Redis as soon as it takes them, and adopts orphaned journals."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from app.journal.ack_log import AckLog
from app.journal.files import JournalFiles
from app.journal.journal import Journal
from app.journal.pending_log import Entry
from app.journal.recovery import Recovery
from app.log import new_log
from app.revocation import Revocation
from app.store.errors import AppForbidden, LevelNotReached, RedisFault, RevocationRefused
from app.store.monitor import RedisMonitor
from app.store.store import Store

log = new_log(__name__)

# One round trip, short enough for requests to get in between.
_CHUNK = 200

_FIRST_PAUSE, _MAX_PAUSE = 0.2, 5.0

# How long the journal of a process that has ended waits until another process adopts it.
ADOPT_SECONDS = 10.0

_PROBE_SECONDS = 2.0

_ALARM_SECONDS = 60.0


class Replay:
    """The background task of one journal. ``alarm_age`` is in seconds."""

    def __init__(
        self,
        journal: Journal,
        files: JournalFiles,
        store: Store,
        monitor: RedisMonitor,
        ack_log: AckLog,
        recovery: Recovery,
        *,
        alarm_age: float,
        on_written: Callable[[Revocation, int], None] = lambda _, __: None,
    ) -> None:
        self._journal = journal
        self._files = files
        self._store = store
        self._monitor = monitor
        self._ack_log = ack_log
        self._recovery = recovery
        self._alarm_age = alarm_age
        self._on_written = on_written
        self._alarmed_at = float("-inf")

    async def keep_replaying(self) -> None:
        """Replay whenever entries wait and Redis takes writes. Never returns."""
        pause = _FIRST_PAUSE
        adopted_at = probed_at = float("-inf")
        while True:
            try:
                now = asyncio.get_running_loop().time()
                if now - adopted_at > ADOPT_SECONDS:
                    adopted_at = now
                    if await self._files.adopt_orphans(self._journal, self._ack_log):
                        self._recovery.primary_changed()
                    await self._journal.refresh()
                if now - probed_at > _PROBE_SECONDS and self._matters():
                    probed_at = now
                    await self._journal.probe()
                # While no server takes a write, there is nothing to try, and no reason to back off.
                done = all(map(self._monitor.down, self._store.apps)) or await self.replay()
            except Exception:
                log.exception("journal", outcome="failed", error="internal")
                done = False
            self._alarm()
            pause = _FIRST_PAUSE if done else min(pause * 2, _MAX_PAUSE)
            # With jitter: not all processes at once, on a Redis that has only just come back.
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311

    def _matters(self) -> bool:
        """Whether it makes a difference now if the journal takes an entry."""
        return self._monitor.last_error is not None or self._journal.fault == "disk"

    async def replay(self) -> bool:
        """Write every waiting entry, once. False when Redis did not take one of them."""
        return await self._replay(self._monitor.down)

    async def _replay(self, down: Callable[[str], bool] = lambda _: False) -> bool:
        journal, store, ack_log = self._journal, self._store, self._ack_log
        return await replay(
            journal, store, ack_log, down, on_written=self._written, on_fault=self._monitor.failed
        )

    def _written(self, revocation: Revocation, answer: int) -> None:
        self._monitor.app_faults.written(revocation.app)
        self._on_written(revocation, answer)

    async def drain(self, seconds: float) -> None:
        """At shutdown: replay for at most ``seconds``, and log what remains."""
        try:
            async with asyncio.timeout(seconds):
                # The monitor has stopped: only a try shows whether Redis is back.
                while not await self._replay():
                    await asyncio.sleep(_FIRST_PAUSE)
        except TimeoutError:
            pass
        except Exception:
            # The entries stay on disk; the rest of the shutdown must go on.
            log.exception("journal", outcome="failed", error="internal")
        depth = self._journal.depth
        if depth.waiting or depth.set_aside:
            log.error(
                "journal",
                outcome="stopped",
                waiting=depth.waiting,
                set_aside=depth.set_aside,
                file=str(self._journal.path),
            )

    def _alarm(self) -> None:
        """Log what needs a person, at most once a minute."""
        now = asyncio.get_running_loop().time()
        depth, fault = self._journal.depth, self._journal.fault
        age = 0.0 if depth.oldest_at is None else time.time() - depth.oldest_at
        if now - self._alarmed_at < _ALARM_SECONDS:
            return
        if fault or depth.set_aside or (depth.waiting and age > self._alarm_age):
            self._alarmed_at = now
            log.error(
                "journal",
                outcome="alarm",
                fault=fault,
                waiting=depth.waiting,
                set_aside=depth.set_aside,
                bytes=depth.bytes,
                oldest_s=round(age),
            )


async def replay(
    journal: Journal,
    store: Store,
    ack_log: AckLog,
    down: Callable[[str], bool] = lambda _: False,
    *,
    on_written: Callable[[Revocation, int], None] = lambda _, __: None,
    on_fault: Callable[[str, RedisFault], None] = lambda _, __: None,
) -> bool:
    """Write every waiting entry, once; ``on_written`` gets each with the script's answer, and
    ``on_fault`` each app that takes no writes.

    Skips the apps that are ``down``. False when Redis did not take one of the entries. An entry
    that Redis refuses on its own account is set aside.
    """
    after, applied = 0, 0
    forbidden: set[str] = set()
    while journal.depth.waiting and (entries := await journal.read(after=after, limit=_CHUNK)):
        after = entries[-1].id
        apps = {entry.revocation.app for entry in entries}
        skipped = {app for app in apps if app in forbidden or down(app)}
        entries = [entry for entry in entries if entry.revocation.app not in skipped]
        if not entries:
            continue
        outcome = await _write(entries, journal, store, ack_log, on_written)
        applied += outcome.applied
        for app, fault in outcome.forbidden.items():
            on_fault(app, fault)
        forbidden |= outcome.forbidden.keys()
        if not outcome.reached:
            break
    left = journal.depth.waiting
    if applied:
        log.info("journal", outcome="replayed", entries=applied, left=left)
    return not left


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Of one chunk."""

    applied: int
    """How many entries Redis has taken."""
    reached: bool
    """Whether the next chunk may be written."""
    forbidden: Mapping[str, AppForbidden]
    """Apps whose keys the Redis user may not write; the others are not held up by them."""


async def _write(
    entries: Sequence[Entry],
    journal: Journal,
    store: Store,
    ack_log: AckLog,
    on_written: Callable[[Revocation, int], None],
) -> _Outcome:
    # An entry that is in Redis below its level is not written a second time.
    again = [entry.id in journal.written for entry in entries]
    results = await store.write([entry.revocation for entry in entries], again=again)
    applied, refused = [], []
    forbidden: dict[str, AppForbidden] = {}
    faults = {str(result) for result in results if not isinstance(result, int)}
    if faults:
        log.warning("journal", outcome="not_replayed", error=",".join(sorted(faults)))
    for entry, result in zip(entries, results, strict=True):
        if isinstance(result, int):
            applied.append(entry)
            on_written(entry.revocation, result)
        elif isinstance(result, RevocationRefused):
            refused.append((entry, str(result)))
        elif isinstance(result, LevelNotReached):
            journal.written.add(entry.id)
        elif isinstance(result, AppForbidden):
            forbidden[entry.revocation.app] = result
    if applied:
        ack_log.add_many([entry.revocation for entry in applied])
        await journal.remove(applied)
    if refused:
        await journal.set_aside(refused)
    # An entry that was written ends sessions, at whatever level.
    reached = {type(result) for result in results} <= {
        int, LevelNotReached, RevocationRefused, AppForbidden,
    }  # fmt: skip
    return _Outcome(len(applied), bool(applied) or reached, forbidden)
