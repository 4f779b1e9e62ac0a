"""A Redis that lost what it had acknowledged gets it again, from our copy.

Told by the watch after any change of primary, restart or outage. First the last minutes are
compared: a failover loses seconds. Where something was missing and the server came back empty
or older, everything that the copy holds is compared. What is there is left alone.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

from app.journal.ack_log import AckLog
from app.log import new_log
from app.revocation import Revocation
from app.store.errors import LevelNotReached, RevocationRefused
from app.store.store import Store
from app.store.topology import REDIS_SECONDS

log = new_log(__name__)

# A failover loses what the replica had not yet: seconds. Longer than a split lasts until a
# Cluster's or Sentinel's old primary has stepped back.
LATELY_SECONDS = 360.0

# And at least so much, a thousand logouts or so: a copy whose last entry is hours old still tells
# an older server.
LATELY_BYTES = 512 << 10

# One round trip; short enough for requests to get in between.
_CHUNK = 200

# So long after a change an answer of the server before may still come in. What is accepted later
# is on the new one; under load the comparison would follow it for ever.
_LATE_SECONDS = 2 * REDIS_SECONDS

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class Recovery:
    """Compares Redis with the copy, in a task of its own."""

    def __init__(
        self,
        store: Store,
        accepted: AckLog,
        *,
        clock: Callable[[], float] = time.time,
        on_lost: Callable[[int], None] = lambda _: None,
        on_restored: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_lost`` gets how many were missing, when all of them have been written again;
        ``on_restored`` is called whenever apps may be served again: see `holds`."""
        self._on_lost = on_lost
        self._on_restored = on_restored
        self._store = store
        self._accepted = accepted
        self._clock = clock
        self._changed = asyncio.Event()
        self._lost = 0
        """What was missing, until everything was compared: also when a fault comes between."""
        self._stuck: set[str] = set()
        """The apps that take no writes now: their server is away, or their keys are forbidden."""
        self._changes = self._compared = 0
        """Changes that were reported, and those of them since which everything was compared."""
        self._unrestored: set[str] = set()
        """The apps that took no writes when everything else was compared."""
        self._written: set[int] = set()
        """The markers that this comparison has written: they do not say that an older logout of
        the same user is there."""

    def primary_changed(self) -> None:
        """What was acknowledged may be lost."""
        self._changes += 1
        self._changed.set()

    def holds(self, app: str, lost: bool) -> bool:
        """Whether markers of this app may still be missing in Redis that our copy holds.

        ``lost``: its ``meta`` has just been found missing, so that a comparison is about to begin.
        """
        if not self._accepted.end:
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
                log.exception("recovery", outcome="failed", error="internal")
                self._changed.set()
                self._compared = self._changes  # a fault of ours must not end all service
                self._on_restored()
                await asyncio.sleep(_FIRST_PAUSE)

    async def recover(self) -> int:
        """Write again what is missing; returns how many. Waits for apps that take no writes."""
        pause = _FIRST_PAUSE
        await self._compare_all()
        while self._stuck:
            log.warning("recovery", outcome="waiting", apps=",".join(sorted(self._stuck)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            self._changed.clear()
            pause = min(pause * 2, _LONGEST_PAUSE)
            self._stuck.clear()
            await self._compare_all()
        lost, self._lost = self._lost, 0
        self._written.clear()
        if lost:
            log.error("recovery", outcome="done", written_again=lost)
            self._on_lost(lost)
        else:
            log.info("recovery", outcome="nothing_lost")
        return lost

    async def _compare_all(self) -> None:
        changes = self._changes
        lately = self._accepted.since(LATELY_SECONDS, min_bytes=LATELY_BYTES)
        await self._compare(lately, None)
        if self._lost:
            # An alarm: with an append-only file and a replica that keeps up, nothing is lost.
            log.error("recovery", outcome="older", lost=self._lost, action="compare_all")
            await self._compare(0, lately)
        self._compared, self._unrestored = changes, set(self._stuck)
        self._on_restored()

    async def _compare(self, after: int, last: int | None) -> None:
        """Entries behind the position ``after`` and up to ``last``; counts what was missing.

        ``last`` None: what is accepted in the next `_LATE_SECONDS`, too.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        while entries := self._accepted.read(after=after, limit=_CHUNK):
            if last is None and loop.time() > began + _LATE_SECONDS:
                last = self._accepted.end
            if last is not None:
                entries = [entry for entry in entries if entry[0] <= last]
            entries = _until_repeated(entries)
            if not entries or self._stuck.issuperset(self._store.apps):
                break
            await self._write_missing([one for _, one in entries])
            after = entries[-1][0]
            await asyncio.sleep(0)  # reading does not wait, and requests come first

    async def _write_missing(self, revocations: Sequence[Revocation]) -> None:
        """Write those of them that are missing; an app that takes none now is passed over."""
        now = self._clock()
        # A marker that is gone because its time has come was not lost.
        alive = [
            one
            for one in revocations
            if one.received_at + one.life > now and one.app not in self._stuck
        ]
        markers = [hash(one.marker_keys[0]) for one in alive]
        again = [marker not in self._written for marker in markers]
        results = await self._store.write(alive, again=again)
        for one, marker, result in zip(alive, markers, results, strict=True):
            # Not as durable as it should be, but there: it was missing all the same.
            answer = result.answer if isinstance(result, LevelNotReached) else result
            if isinstance(answer, int):
                if answer > 0:
                    self._written.add(marker)
                    self._lost += 1
            elif not isinstance(answer, RevocationRefused):
                self._stuck.add(one.app)


def _until_repeated(entries: list[tuple[int, Revocation]]) -> list[tuple[int, Revocation]]:
    """The first entries, up to one whose marker another of them writes too."""
    seen: set[str] = set()
    for index, (_, revocation) in enumerate(entries):
        if revocation.marker_keys[0] in seen:
            return entries[:index]
        seen.add(revocation.marker_keys[0])
    return entries
