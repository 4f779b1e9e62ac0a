"""A copy of what was acknowledged lately, for a Redis that comes back empty or older.

Written in groups, a moment after the answer and without an fsync: Redis and this copy would
have to fail in the same second for it to matter. Bounded by age and number. Without a journal
it is kept in memory, for minutes instead of hours.
"""

import asyncio
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from app.revocation import Revocation

from .record import DamagedRecord, decode, encode
from .sqlite_file import SqliteFile, files_of

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS accepted (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    accepted_at REAL NOT NULL,    -- epoch seconds
    record BLOB NOT NULL
);
"""

FLUSH_SECONDS = 0.2

# Of the settings' window, when there is no disk to keep the copy on.
IN_MEMORY_SECONDS = 600.0
IN_MEMORY_ENTRIES = 50_000

# What is older goes in steps: each of them is a walk over the file's end.
_PRUNE_SECONDS = 30.0


class Accepted:
    """The copy. ``path`` None keeps it in memory; ``window`` in seconds, ``most`` in entries."""

    def __init__(
        self,
        path: Path | None,
        *,
        window: float,
        most: int,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._window = window if path else min(window, IN_MEMORY_SECONDS)
        self._most = most if path else min(most, IN_MEMORY_ENTRIES)
        self._clock = clock
        self._monotonic = monotonic
        self._file = SqliteFile(path, _SCHEMA, synchronous="OFF", check=False)
        self._unwritten: list[tuple[float, Revocation]] = []
        self._turn = asyncio.Lock()
        self._last_id = 0
        self._steps: deque[tuple[float, int]] = deque()
        """By the monotonic clock, which no one sets: up to which id was accepted by then."""

    async def open(self) -> None:
        """Open the file; a damaged copy is thrown away, for Redis has what is in it."""
        try:
            await self._file.open()
            self._last_id = await self._file.run(_last_id)
            # The process before this one had another monotonic clock.
            lately = self._clock() - IN_MEMORY_SECONDS
            first = await self._file.run(
                lambda db: db.execute(
                    "SELECT min(id) FROM accepted WHERE accepted_at >= ?", (lately,)
                ).fetchone()[0]
            )
            before = self._last_id if first is None else first - 1
            self._steps.append((float("-inf"), before))
        except sqlite3.DatabaseError as error:
            if self._path is None:
                raise
            log.error("accepted outcome=damaged action=discarded error=%s", type(error).__name__)
            for file in files_of(self._path):
                with suppress(FileNotFoundError):
                    file.unlink()
            await self._file.open()
        self._steps.append((self._monotonic(), self._last_id))

    async def close(self) -> None:
        await self.flush()
        await self._file.close()

    def remember(self, revocation: Revocation) -> None:
        """Note what Redis has acknowledged; costs next to nothing."""
        self._unwritten.append((self._clock(), revocation))

    async def keep_writing(self) -> None:
        """Write in groups, and forget what is too old. Never returns."""
        pruned_at = self._monotonic()
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()
            if self._monotonic() - pruned_at > _PRUNE_SECONDS:
                pruned_at = self._monotonic()
                await self._prune()

    async def flush(self) -> None:
        """Write what was noted."""
        async with self._turn:
            group, self._unwritten = self._unwritten, []
            if not group:
                return
            try:
                self._last_id = await self._file.run(
                    lambda db: _insert(db, [(at, encode(one)) for at, one in group])
                )
            except sqlite3.Error as error:
                # Redis has them all the same: this is about the next fault, not about this one.
                log.error("accepted outcome=failed lost=%d error=%s", len(group), error)
                await self._prune(to=self._most // 2)
            self._step()

    def _step(self) -> None:
        """Note how far the copy has come; only the last minutes are ever asked for."""
        now = self._monotonic()
        self._steps.append((now, self._last_id))
        while len(self._steps) > 1 and self._steps[1][0] <= now - IN_MEMORY_SECONDS:
            self._steps.popleft()

    async def _prune(self, to: int | None = None) -> None:
        oldest = self._clock() - self._window
        first = self._last_id - (self._most if to is None else to)
        with suppress(sqlite3.Error):
            await self._file.run(
                lambda db: db.execute(
                    "DELETE FROM accepted WHERE id <= ? OR"
                    " (id <= (SELECT min(id) FROM accepted) + 100000 AND accepted_at < ?)",
                    (first, oldest),
                )
            )

    async def since(self, seconds: float, *, at_least: int) -> int:
        """The id before the first that was accepted in the last ``seconds``, at most 600.

        Goes back further where those are fewer than ``at_least``.
        """
        await self.flush()
        then = self._monotonic() - seconds
        first = next((number for at, number in reversed(self._steps) if at <= then), 0)
        return max(0, min(first, self._last_id - at_least))

    async def read(self, *, after: int, limit: int) -> list[tuple[int, Revocation]]:
        """The next entries in the order of their acceptance."""
        rows = await self._file.run(
            lambda db: db.execute(
                "SELECT id, record FROM accepted WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
            ).fetchall()
        )
        entries = []
        for number, record in rows:
            with suppress(DamagedRecord):
                entries.append((number, decode(record)))
        if rows and not entries:
            return await self.read(after=rows[-1][0], limit=limit)
        return entries

    async def adopt(self, path: Path) -> None:
        """Take over the copy of a process that is gone, and delete its files."""
        other = Accepted(path, window=self._window, most=self._most, clock=self._clock)
        await other.open()
        after = 0
        while entries := await other.read(after=after, limit=1000):
            after = entries[-1][0]
            for _, revocation in entries:
                self._unwritten.append((revocation.event.received_at, revocation))
            await self.flush()
        await other.close()
        for file in files_of(path):
            file.unlink(missing_ok=True)


def _last_id(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM accepted").fetchone()[0])


def _insert(connection: sqlite3.Connection, rows: Sequence[tuple[float, bytes]]) -> int:
    connection.executemany("INSERT INTO accepted (accepted_at, record) VALUES (?, ?)", rows)
    return _last_id(connection)
