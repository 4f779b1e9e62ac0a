"""An append-only log of records in segment files; the journal and the copy are each one.

A segment never changes once it is written, and only the oldest one is ever deleted: an unlink
needs no room on a full disk, and a record that was hit costs no other one. Without a directory the
log is kept in memory.

Not thread-safe. Does not know what the records mean.
"""

import contextlib
import errno
import io
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import BinaryIO, cast

from app.journal.record import READ_BYTES, scan

# A segment is deleted as a whole: small enough to delete often, large enough for few files.
SEGMENT_BYTES = 4 << 20

# A position is a segment's number and an offset in it.
_OFFSET_BITS = 32

# What a probe writes: more than any record, so that a probe that succeeds means something.
_PROBE_BYTES = 16 << 10


@dataclass(slots=True, eq=False)
class Segment:
    """One file, or its equivalent in memory. Times are monotonic."""

    number: int
    path: Path | None
    size: int
    began: float
    ended: float
    file: BinaryIO | None = None
    """Open while the segment is written; always in memory."""

    @property
    def start(self) -> int:
        """The position of the first record."""
        return self.number << _OFFSET_BITS

    @property
    def end(self) -> int:
        """The position after the last record."""
        return self.start + self.size

    def records(self, after: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield the whole records after a position, each with the position after it.

        Skips damage. Raises ``OSError``.
        """
        offset = max(0, after - self.start)
        while offset < self.size and (data := self._read(offset)):
            is_last = len(data) < READ_BYTES
            for at, record in scan(data, is_last=is_last):
                if record is not None:
                    yield self.start + offset + at + len(record), record
            if is_last:
                return
            offset += at

    def _read(self, offset: int) -> bytes:
        with self.reading() as file:
            file.seek(offset)
            return file.read(min(READ_BYTES, self.size - offset))

    @contextlib.contextmanager
    def reading(self) -> Iterator[BinaryIO]:
        """The file, open for reading."""
        if self.path is None:
            yield cast("BinaryIO", self.file)
            return
        file: BinaryIO
        try:
            file = self.path.open("rb")
        except FileNotFoundError:  # another process has deleted its oldest segment
            file = io.BytesIO()
        with file:
            yield file

    def write(self, data: bytes, *, sync: bool) -> None:
        """Write after the last record. ``size`` stays as it is; raises ``OSError``."""
        file = self._open_file()
        file.seek(self.size)
        left = memoryview(data)
        try:
            while left:
                left = left[file.write(left) :]
            if sync:
                os.fsync(file.fileno())
        except OSError:
            self.cut()
            raise

    def cut(self) -> None:
        """Remove what was written after the last record."""
        with contextlib.suppress(OSError):
            self._open_file().truncate(self.size)

    def _open_file(self) -> BinaryIO:
        if self.file is None:
            raise OSError(errno.EBADF, "closed")
        return self.file

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


class SegmentLog:
    """The log. ``sync``: an append outlives a power loss, and not only the process."""

    def __init__(
        self,
        directory: Path | None,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        segment_seconds: float = math.inf,
        sync: bool = False,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory = directory
        self.segments: list[Segment] = []
        """The oldest first."""
        self.size = 0
        self._segment_bytes = segment_bytes
        self._segment_seconds = segment_seconds
        self._sync = sync
        self._clock = clock
        self._monotonic = monotonic
        self._next = 1

    def open(self, *, read_only: bool = False) -> None:
        """Find what an earlier process has left. Raises ``OSError``.

        ``read_only`` changes nothing on the disk: another process may have the log open.
        """
        if self.directory is None:
            return
        if not read_only:
            make_directory(self.directory)
            if self._sync:
                _sync_directory(self.directory.parent)
        for path in sorted(self.directory.glob("*.log")):
            with contextlib.suppress(ValueError, FileNotFoundError):
                self._add(int(path.stem), path)

    def _add(self, number: int, path: Path) -> None:
        status = path.stat()
        # The earlier process had another monotonic clock; the file's date tells its age.
        ended = self._monotonic() - max(0.0, self._clock() - status.st_mtime)
        self.segments.append(Segment(number, path, status.st_size, ended, ended))
        self.size += status.st_size
        self._next = max(self._next, number + 1)

    def close(self) -> None:
        for segment in self.segments:
            segment.close()
        self.segments.clear()
        self.size = 0

    @property
    def end(self) -> int:
        """The position after the last record."""
        return self.segments[-1].end if self.segments else 0

    def read(self, *, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return the next records, each with the position after it. Raises ``OSError``."""
        records = (record for segment in self.segments for record in segment.records(after))
        return list(islice(records, limit))

    def records_at(self, places: Iterable[tuple[int, int]]) -> Iterator[bytes]:
        """Yield the bytes of records, each given by the position after it and its size.

        They may be damaged. Raises ``OSError``.
        """
        segments = {segment.number: segment for segment in self.segments}
        for number, group in groupby(places, key=lambda place: place[0] >> _OFFSET_BITS):
            segment = segments[number]
            with segment.reading() as file:
                for position, size in group:
                    file.seek(position - segment.start - size)
                    yield file.read(size)

    def append(self, records: bytes) -> int:
        """Append records that end in newlines; returns the position before them.

        Raises ``OSError``; then the log has none of them.
        """
        segment = self._writable()
        segment.write(records, sync=self._sync)
        start = segment.end
        segment.size += len(records)
        segment.ended = self._monotonic()
        self.size += len(records)
        return start

    def probe(self) -> None:
        """Write something and remove it again. Raises ``OSError``.

        In a file of its own: what a killed process leaves there is no damage of the log.
        """
        if self.directory is None:
            return
        path = self.directory / "probe"
        path.unlink(missing_ok=True)
        try:
            with path.open("wb") as file:
                file.write(bytes(_PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _writable(self) -> Segment:
        now = self._monotonic()
        segment = self.segments[-1] if self.segments else None
        if (
            segment is None
            or segment.file is None
            or segment.size >= self._segment_bytes
            or now - segment.began >= self._segment_seconds
        ):
            if segment is not None and segment.path is not None:
                segment.close()
            segment = self._begin(now)
        return segment

    def _begin(self, now: float) -> Segment:
        path: Path | None = None
        file: BinaryIO = io.BytesIO()
        if self.directory is not None:
            path = self.directory / f"{self._next:012d}.log"
            # Unreadable for other users: the file shows who logged out when.
            path.touch(mode=0o600)
            give_to_owner(path)
            # Without a buffer: what was written outlives the process.
            file = cast("BinaryIO", path.open("r+b", buffering=0))
            if self._sync:
                _sync_directory(self.directory)
        segment = Segment(self._next, path, 0, now, now, file)
        self._next += 1
        self.segments.append(segment)
        return segment

    def drop_oldest(self) -> None:
        """Delete the oldest segment."""
        segment = self.segments.pop(0)
        segment.close()
        self.size -= segment.size
        if segment.path is not None:
            with contextlib.suppress(OSError):
                segment.path.unlink(missing_ok=True)

    def adopt(self, directory: Path) -> None:
        """Move the segments of a closed log to the end of this one. Raises ``OSError``."""
        if self.directory is None:
            return
        if self.segments:
            self.segments[-1].close()  # the next append begins another one
        for path in sorted(directory.glob("*.log")):
            self._add(self._next, path.rename(self.directory / f"{self._next:012d}.log"))
        with contextlib.suppress(OSError):
            directory.rmdir()


def make_directory(directory: Path, mode: int = 0o700) -> None:
    """Create a directory durably, and those above it. Raises ``OSError``."""
    if not directory.parent.is_dir():
        make_directory(directory.parent, 0o777)
    if not directory.is_dir():
        directory.mkdir(mode=mode, exist_ok=True)
        give_to_owner(directory)
        _sync_directory(directory.parent)


def give_to_owner(path: Path) -> None:
    """Give what root has created to the owner of the directory: the receiver must open it."""
    # A root without this right, as in a container, runs the receiver, too.
    with contextlib.suppress(OSError):
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.chown(path, owner.st_uid, owner.st_gid)


def _sync_directory(directory: Path) -> None:
    """Make the names of new files durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
