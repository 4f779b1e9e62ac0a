"""A copy of what was acknowledged lately, for a Redis that comes back empty or older.

A directory of plain files, each of at most a minute and some megabytes: records one behind the
other. A record is handed to the operating system before the provider has its answer, so that
the copy outlives the process. Not the machine's power: nothing waits for the disk here. Without
a journal the copy is kept in memory, for minutes instead of hours.
"""

import errno
import io
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from app.journal.record import DamagedRecord, decode, encode, records_in
from app.log import new_log
from app.revocation import Revocation

log = new_log(__name__)

# Of the settings' window, when there is no disk to keep the copy on.
IN_MEMORY_SECONDS = 600.0
IN_MEMORY_BYTES = 32 << 20

# A part is forgotten as a whole, and "lately" is told by parts.
_PART_SECONDS = 60.0
_PART_BYTES = 4 << 20

# How much is read at once, in a few milliseconds; no record is nearly as long.
_READ_BYTES = 128 << 10

# A position is the number of a part and an offset in it.
_OFFSET_BITS = 40

# A disk that is full is told this often, and not for each logout.
_TELL_SECONDS = 60.0


@dataclass(slots=True, eq=False)
class _Part:
    """One file, or its like in memory. Times are of the monotonic clock, which no one sets."""

    number: int
    path: Path | None
    size: int
    began: float
    ended: float
    file: BinaryIO | None = None
    """Open while it is the one that is written; in memory always."""

    def read(self, offset: int) -> bytes:
        length = min(_READ_BYTES, self.size - offset)
        if self.path is None and self.file is not None:
            self.file.seek(offset)
            return self.file.read(length)
        if self.path is None:
            return b""
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def append(self, records: bytes) -> None:
        if self.file is None:
            raise OSError("closed")
        if self.path is None:
            self.file.seek(self.size)
            written = self.file.write(records)
        else:
            written = os.pwrite(self.file.fileno(), records, self.size)
        if written != len(records):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size += len(records)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


class AckLog:
    """The copy. ``directory`` None keeps it in memory; ``window`` is in seconds."""

    def __init__(
        self,
        directory: Path | None,
        *,
        window: float,
        most_bytes: int,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._window = window if directory else min(window, IN_MEMORY_SECONDS)
        self._most = most_bytes if directory else min(most_bytes, IN_MEMORY_BYTES)
        self._clock = clock
        self._monotonic = monotonic
        self._parts: list[_Part] = []
        self._next = 1
        self._told_at = float("-inf")
        self._held: list[bytes] | None = None
        """Records that go to the file together; None: each by itself."""
        self.last: Revocation | None = None
        """What was noted last by this process: while it is in Redis, little can be missing."""

    def open(self) -> None:
        """Find what the process before this one has left. Raises ``OSError``."""
        if self._directory is None:
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self._directory.glob("*.log")):
            with suppress(ValueError):
                self._found(int(path.stem), path)
        self._prune()

    def _found(self, number: int, path: Path) -> None:
        status = path.stat()
        # The other process had another monotonic clock; the file's date says how old it is.
        ended = self._monotonic() - max(0.0, self._clock() - status.st_mtime)
        self._parts.append(_Part(number, path, status.st_size, ended, ended))
        self._next = max(self._next, number + 1)

    def close(self) -> None:
        for part in self._parts:
            part.close()
        self._parts.clear()

    # -- writing ----------------------------------------------------------------------------

    def remember(self, revocation: Revocation) -> None:
        """Note what Redis has acknowledged; some microseconds. Never raises."""
        self.last = revocation
        record = encode(revocation) + b"\n"
        if self._held is None:
            self._append(record)
        else:
            self._held.append(record)

    def hold(self) -> None:
        """Gather what is noted from here on."""
        self._held = []

    def release(self) -> None:
        """Hand it to the operating system, in one call. Never raises."""
        records, self._held = self._held, None
        if records:
            self._append(b"".join(records))

    def _append(self, records: bytes) -> None:
        try:
            part = self._writable()
            part.append(records)
        except OSError as error:
            # Redis has it all the same: this is about the next fault, not about this one. What
            # is old makes room, for the journal stands on the same disk.
            self._tell(error)
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                self._prune(self._size() // 2)
            return
        part.ended = self._monotonic()

    def _writable(self) -> _Part:
        now = self._monotonic()
        part = self._parts[-1] if self._parts else None
        if (
            part is None
            or part.file is None
            or part.size >= min(_PART_BYTES, self._most // 8)
            or now - part.began >= _PART_SECONDS
        ):
            if part is not None and part.path is not None:
                part.close()
            self._prune()
            part = self._begin(now)
        return part

    def _begin(self, now: float) -> _Part:
        path: Path | None = None
        file: BinaryIO = io.BytesIO()
        if self._directory is not None:
            path = self._directory / f"{self._next:012d}.log"
            path.touch(mode=0o600)
            # No buffer: what was written is the operating system's, whatever becomes of us.
            file = cast("BinaryIO", path.open("r+b", buffering=0))
        part = _Part(self._next, path, 0, now, now, file)
        self._next += 1
        self._parts.append(part)
        return part

    def _prune(self, most: int | None = None) -> None:
        """Forget whole parts: what is older than the window, and what is too much."""
        oldest = self._monotonic() - self._window
        most = self._most if most is None else most
        while self._parts and (self._parts[0].ended < oldest or self._size() > most):
            part = self._parts.pop(0)
            part.close()
            if part.path is not None:
                with suppress(OSError):
                    part.path.unlink(missing_ok=True)

    def _size(self) -> int:
        return sum(part.size for part in self._parts)

    def _tell(self, error: OSError) -> None:
        now = self._monotonic()
        if now - self._told_at >= _TELL_SECONDS:
            self._told_at = now
            log.error("accepted", outcome="failed", error=error.strerror)

    # -- reading ----------------------------------------------------------------------------

    def since(self, seconds: float, *, at_least: int) -> int:
        """The position of the first that was accepted in the last ``seconds``, or earlier.

        Goes back further where those are fewer than ``at_least`` bytes.
        """
        then, size, first = self._monotonic() - seconds, 0, self._next << _OFFSET_BITS
        for part in reversed(self._parts):
            if part.ended < then and size >= at_least:
                break
            size += part.size
            first = part.number << _OFFSET_BITS
        return first

    @property
    def end(self) -> int:
        """The position behind the last one."""
        last = self._parts[-1] if self._parts else None
        return (last.number << _OFFSET_BITS) + last.size if last else 0

    def read(self, *, after: int, limit: int) -> list[tuple[int, Revocation]]:
        """The next entries in the order of their acceptance, each with the position behind it.

        Passes over what is damaged. Raises ``OSError``.
        """
        for part in self._parts:
            start = part.number << _OFFSET_BITS
            offset = max(0, after - start)
            while offset < part.size and (data := part.read(offset)):
                entries, end = [], 0
                for record in records_in(data):
                    end = data.index(record, end) + len(record)
                    with suppress(DamagedRecord):
                        entries.append((start + offset + end, decode(record)))
                    if len(entries) == limit:
                        break
                if entries:
                    return entries
                # Nothing whole in all of this; a record may begin in its second half.
                offset += max(1, len(data) // 2)
        return []

    def adopt(self, directory: Path) -> None:
        """Take over the copy of a process that is gone; what it had counts as lately."""
        if self._directory is None:
            return
        for path in sorted(directory.glob("*.log")):
            own = path.rename(self._directory / f"{self._next:012d}.log")
            self._found(self._next, own)
        with suppress(OSError):
            directory.rmdir()
