"""Restores what Redis acknowledged and then lost, from the copy.

Runs after each change of primary, restart or outage. It compares the last minutes first, because a
failover loses seconds. If anything was missing, the server came back empty or older, and the whole
copy is compared. Markers that exist are left alone.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.journal.ack_log import AckLog
from app.log import new_log
from app.revocation import Revocation
from app.store.errors import LevelNotReached, RevocationRefused
from app.store.store import Store
from app.store.topology import REDIS_SECONDS

log = new_log(__name__)

# A failover loses what the replica did not have yet: seconds. This is longer than a split lasts
# until the old primary of a Cluster or Sentinel has stepped back.
RECENT_SECONDS = 360.0

# At least this much, some thousand logouts: a copy whose last entry is hours old still reveals an
# older server.
RECENT_BYTES = 512 << 10

# One round trip, short enough for requests to get in between.
_CHUNK = 200

# How long after a change an answer of the previous server may still arrive. What is accepted later
# is on the new one; under load the comparison would never catch up with it.
_LATE_SECONDS = 2 * REDIS_SECONDS

_FIRST_PAUSE, _MAX_PAUSE = 1.0, 60.0


@dataclass(slots=True)
class Emptied:
    """Redis came back without what was written to it."""

    at: float
    """In epoch seconds."""
    reach: float
    """How far the copy reached back, in seconds."""
    written_again: int | None = None
    """How many revocations of the copy were written; None before that is known."""


class Recovery:
    """Compares Redis with the copy, in a task of its own."""

    def __init__(
        self,
        store: Store,
        ack_log: AckLog,
        *,
        clock: Callable[[], float] = time.time,
        on_lost: Callable[[int], None] = lambda _: None,
        on_restored: Callable[[], None] = lambda: None,
        on_emptied: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_lost`` gets the number of missing revocations once all are written again.

        ``on_emptied`` is called when Redis came back empty.
        ``on_restored`` is called whenever apps may be served again: see `holds`.
        """
        self._on_lost = on_lost
        self._on_restored = on_restored
        self._on_emptied = on_emptied
        self._store = store
        self._ack_log = ack_log
        self._clock = clock
        self._changed = asyncio.Event()
        self._lost = 0
        """How many were missing so far; kept when a fault interrupts the comparison."""
        self._stuck: set[str] = set()
        """Apps that take no writes now: their server is away, or their keys are forbidden."""
        self._changes = self._compared = 0
        """Reported changes, and how many of them a finished comparison covers."""
        self._unrestored: set[str] = set()
        """Apps that took no writes when everything else was compared."""
        self.emptied: Emptied | None = None
        """The latest time that Redis came back empty."""
        self._written: set[int] = set()
        """Markers that this comparison has written.

        They do not show that an older logout of the same user is in Redis.
        """

    def primary_changed(self) -> None:
        """Start a comparison: acknowledged writes may be lost."""
        self._changes += 1
        self._changed.set()

    def redis_emptied(self) -> None:
        """Redis came back without what was written to it: what the copy does not reach is lost.

        `primary_changed` is called next.
        """
        self.emptied = Emptied(self._clock(), self._ack_log.reach)
        minutes = round(self.emptied.reach / 60)
        log.error(
            "recovery", outcome="emptied", copy_reach_s=round(self.emptied.reach),
            detail=f"Redis came back empty; the copy reaches back {minutes} minutes",
        )  # fmt: skip
        self._on_emptied()

    def holds(self, app: str, lost: bool) -> bool:
        """Whether Redis may still lack markers of this app that the copy has.

        ``lost``: its ``meta`` has just been found missing, so a comparison is about to begin.
        """
        if not self._ack_log.end:
            return False
        return lost or self._changes != self._compared or app in self._unrestored

    async def keep_recovering(self) -> None:
        """Compare after each change. Never returns."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.recover()
            except Exception:
                # Not compared: the apps are held, since a marker may be missing.
                log.exception("recovery", outcome="failed", error="internal")
                self._changed.set()
                await asyncio.sleep(_FIRST_PAUSE)

    async def recover(self) -> int:
        """Restore what is missing; returns how many. Waits for apps that take no writes."""
        pause = _FIRST_PAUSE
        await self._compare_all()
        while self._stuck:
            log.warning("recovery", outcome="waiting", apps=",".join(sorted(self._stuck)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            self._changed.clear()
            pause = min(pause * 2, _MAX_PAUSE)
            self._stuck.clear()
            await self._compare_all()
        lost, self._lost = self._lost, 0
        self._written.clear()
        self._report(lost)
        return lost

    def _report(self, lost: int) -> None:
        if self.emptied is not None and self.emptied.written_again is None:
            self.emptied.written_again = lost
            log.error(
                "recovery", outcome="restored_from_copy", written_again=lost,
                copy_reach_s=round(self.emptied.reach),
                detail="Redis came back empty; what was ended before the copy's reach is lost",
            )  # fmt: skip
        elif lost:
            log.error("recovery", outcome="done", written_again=lost)
        elif self.emptied is not None:
            log.info("recovery", outcome="nothing_more_lost")
        else:
            log.info("recovery", outcome="nothing_lost")
        if lost:
            self._on_lost(lost)

    async def _compare_all(self) -> None:
        changes = self._changes
        recent = self._ack_log.since(RECENT_SECONDS, min_bytes=RECENT_BYTES)
        await self._compare(recent, None)
        emptied = self.emptied is not None and self.emptied.written_again is None
        if self._lost and not emptied:
            # An alarm: a server with an append-only file and a current replica loses nothing.
            log.error("recovery", outcome="older", lost=self._lost, action="compare_all")
        if self._lost or emptied:
            await self._compare(0, recent)
        self._compared, self._unrestored = changes, set(self._stuck)
        self._on_restored()

    async def _compare(self, after: int, last: int | None) -> None:
        """Restore the entries after the position ``after`` up to ``last``.

        ``last`` None includes what is accepted in the next `_LATE_SECONDS`.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        while entries := self._ack_log.read(after=after, limit=_CHUNK):
            if last is None and loop.time() > began + _LATE_SECONDS:
                last = self._ack_log.end
            if last is not None:
                entries = [entry for entry in entries if entry[0] <= last]
            entries = _until_repeated(entries)
            if not entries or self._stuck.issuperset(self._store.apps):
                break
            await self._write_missing([revocation for _, revocation in entries])
            after = entries[-1][0]
            await asyncio.sleep(0)  # requests come first

    async def _write_missing(self, revocations: Sequence[Revocation]) -> None:
        """Write those that are missing; skips apps that take no writes now."""
        now = self._clock()
        # A marker that has expired was not lost.
        alive = [
            revocation
            for revocation in revocations
            if revocation.received_at + revocation.heading.life > now
            and revocation.app not in self._stuck
        ]
        markers = [hash(revocation.marker_keys[0]) for revocation in alive]
        again = [marker not in self._written for marker in markers]
        results = await self._store.write(alive, again=again)
        for revocation, marker, result in zip(alive, markers, results, strict=True):
            # Below its level of durability, but written: it was missing all the same.
            answer = result.answer if isinstance(result, LevelNotReached) else result
            if isinstance(answer, int):
                if answer > 0:
                    self._written.add(marker)
                    self._lost += 1
            elif not isinstance(answer, RevocationRefused):
                self._stuck.add(revocation.app)


def _until_repeated(entries: list[tuple[int, Revocation]]) -> list[tuple[int, Revocation]]:
    """Return the first entries, up to the first one whose marker is among them already."""
    seen: set[str] = set()
    for index, (_, revocation) in enumerate(entries):
        if revocation.marker_keys[0] in seen:
            return entries[:index]
        seen.add(revocation.marker_keys[0])
    return entries
