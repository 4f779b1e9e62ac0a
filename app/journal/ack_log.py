"""The copy of what Redis has acknowledged recently, for a Redis that comes back empty or older.

Records reach the operating system before the provider has its answer, so the copy outlives the
process. It does not outlive a power loss: nothing waits for the disk here. Without a journal the
copy is kept in memory, for minutes instead of hours.
"""

import errno
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from app.journal.copy_state import CopyState
from app.journal.record import DamagedRecord, decode, encode
from app.journal.segment_log import SEGMENT_BYTES, SegmentLog
from app.log import new_log
from app.revocation import Revocation

log = new_log(__name__)

# The part of the configured window that is kept without a disk.
IN_MEMORY_SECONDS = 600.0
IN_MEMORY_BYTES = 32 << 20

# "Recently" is known per segment, so a segment covers at most a minute.
_SEGMENT_SECONDS = 60.0

# A full disk is logged this often, and not for each logout.
_LOG_SECONDS = 60.0

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class AckLog:
    """The copy. ``directory`` None keeps it in memory; ``window`` is in seconds."""

    def __init__(
        self,
        directory: Path | None,
        *,
        window: float,
        max_bytes: int,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._window = window if directory else min(window, IN_MEMORY_SECONDS)
        self._max_bytes = max_bytes if directory else min(max_bytes, IN_MEMORY_BYTES)
        self._monotonic = monotonic
        self._segments = SegmentLog(
            directory,
            segment_bytes=min(SEGMENT_BYTES, self._max_bytes // 8),
            segment_seconds=_SEGMENT_SECONDS,
            clock=clock,
            monotonic=monotonic,
        )
        self._clock = clock
        self.state = CopyState(directory)
        self.writable = True
        """Whether the last revocations could be kept."""
        self._logged_at = float("-inf")
        self.last: Revocation | None = None
        """The latest one of this process: while Redis has it, little can be missing."""

    def open(self) -> None:
        """Find what the previous process has left. Raises ``OSError``."""
        self._segments.open()
        oldest = self._segments.segments[0] if self._segments.segments else None
        self.state.open(self._clock(), self._at(oldest.began) if oldest is not None else None)
        self._prune()

    def close(self) -> None:
        self._segments.close()

    def add_many(self, revocations: Sequence[Revocation]) -> None:
        """Keep what Redis has acknowledged, with one system call. Never raises."""
        if not revocations:
            return
        self.last = revocations[-1]
        try:
            self._segments.append(b"".join([encode(each) + b"\n" for each in revocations]))
            self._prune()
            self.writable = True
        except OSError as error:
            # Redis has them all the same. The journal may be on the same disk: old segments
            # make room.
            self._log_failure(error)
            self.writable = False
            self.state.dropped(self._clock())
            if error.errno in _FULL:
                self._prune(self._segments.size // 2)

    def _prune(self, max_bytes: int | None = None) -> None:
        """Delete the segments that are older than the window, or too many."""
        log, limit = self._segments, self._max_bytes if max_bytes is None else max_bytes
        oldest = self._monotonic() - self._window
        while log.segments and (log.segments[0].ended < oldest or log.size > limit):
            if log.segments[0].ended >= oldest:
                self.state.dropped(self._at(log.segments[0].ended))
            log.drop_oldest()

    def _at(self, monotonic: float) -> float:
        """A monotonic time as epoch seconds."""
        return self._clock() - (self._monotonic() - monotonic)

    @property
    def reach(self) -> float:
        """How far the copy reaches back, in seconds; further back, what Redis loses is lost."""
        return max(0.0, min(self._window, self._clock() - self.state.since))

    def _log_failure(self, error: OSError) -> None:
        now = self._monotonic()
        if now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            log.error("accepted", outcome="failed", error=error.strerror)

    def since(self, seconds: float, *, min_bytes: int) -> int:
        """Return a position before everything that was added in the last ``seconds``.

        Goes back further where that is less than ``min_bytes``.
        """
        oldest, size, first = self._monotonic() - seconds, 0, self.end
        # The segments of an adopted copy come after newer ones of ours.
        for segment in reversed(self._segments.segments):
            if segment.ended >= oldest or size < min_bytes:
                first = segment.start
            size += segment.size
        return first

    @property
    def end(self) -> int:
        """The position after the last one; 0 while there is none."""
        return self._segments.end

    def read(self, *, after: int, limit: int) -> list[tuple[int, Revocation]]:
        """Return the next revocations in their order, each with the position after it.

        Skips what is damaged. Raises ``OSError``.
        """
        while records := self._segments.read(after=after, limit=limit):
            revocations = []
            for position, record in records:
                with suppress(DamagedRecord):
                    revocations.append((position, decode(record)))
            if revocations:
                return revocations
            after = records[-1][0]
        return []

    def adopt(self, directory: Path) -> None:
        """Take over the copy of a process that has ended. Raises ``OSError``."""
        CopyState.remove(directory)
        self._segments.adopt(directory)
