"""A copy of what was acknowledged lately, for a Redis that comes back empty or older.

Written in groups, a moment after the answer and without an fsync: Redis and this copy would
have to fail in the same second for it to matter. Bounded by age and number. Without a journal
it is kept in memory, for minutes instead of hours.
"""

import asyncio
import logging
import mmap
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from app.revocation import Revocation

from .record import DamagedRecord, decode, encode, records_in
from .salvage import is_damaged
from .sqlite_file import SqliteFile, files_of

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS accepted (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    accepted_at REAL NOT NULL,    -- epoch seconds
    record BLOB NOT NULL
);
"""

_INSERT = "INSERT INTO accepted (accepted_at, record) VALUES (?, ?)"

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
        """Open the file; a damaged one is begun anew with what can be read of it."""
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
            if first is not None:
                self._steps.append((float("-inf"), first - 1))
        except sqlite3.DatabaseError as error:
            if self._path is None or not is_damaged(error):
                raise
            await self._mend(self._path)
        self._steps.append((self._monotonic(), self._last_id))

    async def _mend(self, path: Path) -> None:
        """Begin a new file with every whole record of the old one; all of it counts as late."""
        await self._file.leave()
        old = await asyncio.to_thread(_moved_away, path)
        await self._file.open()
        now = self._clock()
        self._last_id = await self._file.run(lambda db: _take_over(db, old, now))
        for file in old:
            file.unlink()
        self._steps.clear()
        self._steps.append((float("-inf"), 0))
        log.error("accepted outcome=damaged kept=%d", self._last_id)

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
            try:
                await self.flush()
                if self._monotonic() - pruned_at > _PRUNE_SECONDS:
                    pruned_at = self._monotonic()
                    await self._prune()
            except Exception:
                # Without this task, what is noted would pile up in memory.
                log.exception("accepted outcome=failed error=internal")

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
            self._steps.append((self._monotonic(), self._last_id))
            self._forget_steps(self._monotonic() - IN_MEMORY_SECONDS)

    def _forget_steps(self, before: float) -> None:
        """All but the last one of that time: a step for each group would fill the memory."""
        while len(self._steps) > 1 and self._steps[1][0] <= before:
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
        """The id before the first that was accepted in the last ``seconds``.

        Goes back further where those are fewer than ``at_least``; ``seconds`` is at most
        `IN_MEMORY_SECONDS`.
        """
        await self.flush()
        self._forget_steps(self._monotonic() - seconds)
        return max(0, min(self._steps[0][1], self._last_id - at_least))

    async def read(self, *, after: int, limit: int) -> list[tuple[int, Revocation]]:
        """The next entries in the order of their acceptance.

        Raises ``sqlite3.DatabaseError`` where the file turns out to be damaged; then it was begun
        anew, with other ids.
        """
        try:
            rows = await self._file.run(
                lambda db: db.execute(
                    "SELECT id, CAST(record AS BLOB) FROM accepted WHERE id > ?"
                    " ORDER BY id LIMIT ?",
                    (after, limit),
                ).fetchall()
            )
        except sqlite3.DatabaseError as error:
            if self._path is not None and is_damaged(error):
                async with self._turn:
                    await self._mend(self._path)
            raise
        entries = []
        for number, record in rows:
            with suppress(DamagedRecord):
                entries.append((number, decode(record or b"")))
        if rows and not entries:
            return await self.read(after=rows[-1][0], limit=limit)
        return entries

    async def adopt(self, path: Path) -> None:
        """Take over the copy of a process that is gone, and delete its files."""
        other = Accepted(path, window=self._window, most=self._most, clock=self._clock)
        try:
            await other.open()
            after = 0
            while entries := await other.read(after=after, limit=1000):
                after = entries[-1][0]
                for _, revocation in entries:
                    self._unwritten.append((revocation.event.received_at, revocation))
                await self.flush()
        finally:
            await other.close()
        for file in files_of(path):
            file.unlink(missing_ok=True)


def _last_id(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM accepted").fetchone()[0])


def _moved_away(path: Path) -> list[Path]:
    return [
        file.rename(file.with_name(file.name + ".damaged"))
        for file in files_of(path)
        if file.exists()
    ]


def _take_over(connection: sqlite3.Connection, files: Sequence[Path], now: float) -> int:
    """Insert what is whole in ``files``, without having all of it in memory."""
    for file in files:
        if not file.stat().st_size:
            continue
        with (
            file.open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            connection.executemany(_INSERT, ((now, record) for record in records_in(data)))
    return _last_id(connection)


def _insert(connection: sqlite3.Connection, rows: Sequence[tuple[float, bytes]]) -> int:
    connection.executemany(_INSERT, rows)
    return _last_id(connection)
