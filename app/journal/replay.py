"""Brings the journal's entries to Redis as soon as it takes them, and those of the dead."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from app.journal.ack_log import AckLog
from app.journal.files import JournalFiles
from app.journal.journal import Journal
from app.journal.recovery import Recovery
from app.journal.table import Entry
from app.log import new_log
from app.revocation import Revocation
from app.store.errors import LevelNotReached, RevocationRefused
from app.store.monitor import RedisMonitor
from app.store.store import Store

log = new_log(__name__)

# One round trip; short enough for requests to get in between.
_CHUNK = 200

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0

# How long a process that died may lie there before another one takes over what it had accepted.
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
        watch: RedisMonitor,
        accepted: AckLog,
        recovery: Recovery,
        *,
        alarm_age: float,
        clock: Callable[[], float] = time.time,
        on_written: Callable[[Revocation, int], None] = lambda _, __: None,
    ) -> None:
        self._journal = journal
        self._files = files
        self._store = store
        self._watch = watch
        self._accepted = accepted
        self._recovery = recovery
        self._alarm_age = alarm_age
        self._clock = clock
        self._on_written = on_written
        self._alarmed_at = float("-inf")

    async def keep_replaying(self) -> None:
        """Replay whenever something waits and Redis is there. Never returns."""
        pause = _FIRST_PAUSE
        looked_at = probed_at = float("-inf")
        while True:
            try:
                now = asyncio.get_running_loop().time()
                if now - looked_at > ADOPT_SECONDS:
                    looked_at = now
                    if await self._files.adopt_orphans(self._journal, self._accepted):
                        self._recovery.primary_changed()
                    await self._journal.refresh()
                if now - probed_at > _PROBE_SECONDS and self._in_need():
                    probed_at = now
                    await self._journal.probe()
                # While nobody takes a write there is nothing to try, nor to wait longer for.
                done = all(map(self._watch.down, self._store.apps)) or await self.replay()
            except Exception:
                log.exception("journal", outcome="failed", error="internal")
                done = False
            self._alarm()
            pause = _FIRST_PAUSE if done else min(pause * 2, _LONGEST_PAUSE)
            # Not all processes at once, on a Redis that has only just come back.
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311

    def _in_need(self) -> bool:
        """Whether it matters now if the journal takes an entry."""
        return self._watch.last_error is not None or self._journal.fault == "disk"

    async def replay(self) -> bool:
        """Write every entry that waits, once. False when Redis did not take one of them."""
        return await self._replay(self._watch.down)

    async def _replay(self, down: Callable[[str], bool] = lambda _: False) -> bool:
        journal, store, accepted = self._journal, self._store, self._accepted
        return await replay(journal, store, accepted.add, down, self._on_written)

    async def drain(self, seconds: float) -> None:
        """Before the end: replay for at most so long, then say what remains."""
        try:
            async with asyncio.timeout(seconds):
                # Nobody watches Redis any more; only trying tells.
                while not await self._replay():
                    await asyncio.sleep(_FIRST_PAUSE)
        except TimeoutError:
            pass
        except Exception:
            # What is in the file stays there; the rest of the stop must go on.
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
        """Say loudly, but once a minute, what needs a person."""
        now = asyncio.get_running_loop().time()
        depth, fault = self._journal.depth, self._journal.fault
        age = 0.0 if depth.oldest_at is None else self._clock() - depth.oldest_at
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
    remember: Callable[[Revocation], None],
    down: Callable[[str], bool] = lambda _: False,
    on_written: Callable[[Revocation, int], None] = lambda _, __: None,
) -> bool:
    """Write every entry that waits, once; ``remember`` is told of each that Redis has taken, and
    ``on_written``, with the script's answer.

    ``down`` tells for which apps it would be in vain. False when Redis did not take one of them.
    One that it refuses for its own sake is set aside.
    """
    after, applied = 0, 0
    await journal.remove()
    while journal.depth.waiting and (entries := await journal.read(after=after, limit=_CHUNK)):
        after = entries[-1].id
        entries = [entry for entry in entries if not down(entry.revocation.app)]
        if not entries:
            continue
        go_on, written = await _write(entries, journal, store, remember, on_written)
        applied += written
        if not go_on:
            break
    left = journal.depth.waiting
    if applied:
        log.info("journal", outcome="replayed", entries=applied, left=left)
    return not left


async def _write(
    entries: Sequence[Entry],
    journal: Journal,
    store: Store,
    remember: Callable[[Revocation], None],
    on_written: Callable[[Revocation, int], None],
) -> tuple[bool, int]:
    """One chunk; returns whether the next one is worth a try, and how many Redis has taken."""
    # What is there, but not at its level, is not written a second time.
    again = [entry.id in journal.written for entry in entries]
    results = await store.write([entry.revocation for entry in entries], again=again)
    applied, refused = [], []
    faults = {str(result) for result in results if not isinstance(result, int)}
    if faults:
        log.warning("journal", outcome="not_replayed", error=",".join(sorted(faults)))
    for entry, result in zip(entries, results, strict=True):
        if isinstance(result, int):
            applied.append(entry.id)
            remember(entry.revocation)
            on_written(entry.revocation, result)
        elif isinstance(result, RevocationRefused):
            refused.append((entry.id, str(result)))
        elif isinstance(result, LevelNotReached):
            journal.written.add(entry.id)
    if applied:
        await journal.remove(applied)
    if refused:
        await journal.set_aside(refused)
    # A user who may not write one app's keys may write the next one's; and what is written ends
    # sessions, at whatever level.
    reached = {type(result) for result in results} <= {int, LevelNotReached, RevocationRefused}
    return bool(applied) or reached or faults == {"NOPERM"}, len(applied)
