"""Writes the log to standard error in a thread, so that a blocked pipe delays no response.

A write to a pipe or a terminal waits for its reader. Lines therefore go into a bounded queue, and a
thread writes them, many in one call. When the queue is full, lines are dropped and counted; the
count is logged as soon as lines flow again.

A line is normally written within milliseconds, but not necessarily before the response that it is
about: a process that is killed loses the queue.
"""

import atexit
import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator

from app.log import new_log

log = new_log(__name__)

MAX_CHARACTERS = 1 << 20
"""Size of the queue, including lines that are being written: a second of logouts at full speed."""

FLUSH_SECONDS = 1.0
"""How long the exit of the process waits for the queue to be written."""

# Longer writes may interleave with those of other processes on the same pipe.
_MAX_WRITE = select.PIPE_BUF

# How long the thread collects lines: it wakes up at most 200 times a second.
_GATHER_SECONDS = 0.005


class LineQueue:
    """Writes lines with a queue and a thread after `start`, which the service calls; before, as in
    commands, directly. All methods are thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._lines: list[str] = []
        self._size = 0
        self._dropped = 0
        self._idle = True
        """Nothing is queued or being written."""
        self._thread: threading.Thread | None = None
        self._on_dropped: Callable[[int], None] = lambda _: None

    def write(self, line: str) -> None:
        """Write a line without its newline. Never fails; in the service, never blocks."""
        if self._thread is None:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(line + "\n")
            return
        size = len(line) + 1
        with self._changed:
            if self._size + size > MAX_CHARACTERS and threading.current_thread() != self._thread:
                self._drop(1)
                return
            self._lines.append(line)
            self._size += size
            if self._idle:
                self._idle = False
                self._changed.notify_all()

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Wait until everything is written, at most this long."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle, seconds)

    def _drop(self, count: int) -> None:
        self._dropped += count
        self._on_dropped(count)

    def start(self, on_dropped: Callable[[int], None] = lambda _: None) -> None:
        """Start the thread, once per process. ``on_dropped`` counts dropped lines; it is called
        with the lock held, from any thread."""
        if self._thread is not None:
            return
        self._on_dropped = on_dropped
        try:
            fd = sys.stderr.fileno() if sys.stderr is not None else None
        except (OSError, ValueError):  # it is closed, or no file
            fd = None
        self._thread = threading.Thread(
            target=self._keep_writing, args=(fd,), name="log", daemon=True
        )
        self._thread.start()
        atexit.register(self.flush)

    def _keep_writing(self, fd: int | None) -> None:
        while True:
            with self._changed:
                if not self._lines:
                    self._idle = True
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._lines)
                lines, self._lines = self._lines, []
            written = [self._write_part(fd, part) for part in parts(lines)]
            if written[-1]:
                self._log_dropped()
            time.sleep(_GATHER_SECONDS)

    def _write_part(self, fd: int | None, part: list[str]) -> bool:
        data = ("\n".join(part) + "\n").encode("utf-8", "replace")
        written = fd is not None and _write(fd, data)
        with self._changed:
            self._size -= sum(map(len, part)) + len(part)
            if not written:
                self._drop(len(part))
        return written

    def _log_dropped(self) -> None:
        with self._changed:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            log.warning("log", outcome="dropped", lines=dropped)


def parts(lines: list[str]) -> Iterator[list[str]]:
    """Splits the lines into parts, each as large as one write may be."""
    part: list[str] = []
    size = 0
    for line in lines:
        own = 1 + (len(line) if line.isascii() else len(line.encode("utf-8", "replace")))
        if size + own > _MAX_WRITE and part:
            yield part
            part, size = [], 0
        part.append(line)
        size += own
    if part:
        yield part


def _write(fd: int, data: bytes) -> bool:
    """Write all of it, however long the reader takes; returns whether that succeeded."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:  # another process that shares it has set O_NONBLOCK
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
        except (OSError, ValueError):
            return False
    return True


LINES = LineQueue()
"""The queue of this process."""
