"""The journal: accepted revocations that Redis could not take, until it can.

An entry that was appended outlives the process and the machine's power: SQLite with a
write-ahead log and an fsync at each commit. Appends that come together share one commit.
"""

import asyncio
import contextlib
import hashlib
import math
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from app.journal.append import Append
from app.journal.disk_reserve import Reserve
from app.journal.record import DamagedRecord, decode, encode
from app.journal.salvage import (
    is_damaged,
    left_in_log,
    log_of,
    move_aside,
    read_damaged,
    take_rescued,
)
from app.journal.sqlite import SqliteFile, files_of
from app.journal.table import (
    PUT_BACK,
    SCHEMA,
    Depth,
    Entry,
    delete,
    depth_of,
    oldest,
    see_that_all_are_whole,
    select,
)
from app.log import new_log
from app.revocation import Revocation

_T = TypeVar("_T")

log = new_log(__name__)


# SQLite takes so many values in one statement, in every version.
_MOST_AT_ONCE = 500


class Journal:
    """One process's journal, in a file of its own. ``max_bytes`` counts the records."""

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._file = SqliteFile(path, SCHEMA, synchronous="FULL", check=True)
        self._reserve = Reserve(path.with_name(path.name + ".reserve"))
        self._appends: list[Append] = []
        self._committing: asyncio.Task[None] | None = None
        self._disk_fault = False
        self._applied: set[int] = set()
        """Entries that Redis has, and that the disk does not let us delete."""
        self._full_at = max_bytes
        """From so many bytes on an entry was refused, however small the next one may be."""
        self.written: set[int] = set()
        """Entries that Redis has, but not at the level of durability: for who replays."""
        self.depth = Depth()

    async def open(self) -> None:
        """Open the file. A damaged one is set aside, and what can be read of it is kept.

        Raises ``OSError`` or ``sqlite3.Error`` when there can be no journal at this path.
        """
        wal, rescued = b"", []
        rescue = self.path.with_name(self.path.name + ".rescue")
        await asyncio.to_thread(take_rescued, self.path, rescue)
        try:
            wal = await asyncio.to_thread(log_of, self.path)
            await self._open_file()
            await self._file.run(see_that_all_are_whole)
            rescued = await asyncio.to_thread(left_in_log, self.path, wal, self._file.frames_read)
            await self.refresh()
        except sqlite3.DatabaseError as error:
            if not is_damaged(error, self.path):
                raise
            await self._file.leave()
            await self._rescue(await asyncio.to_thread(read_damaged, self.path, wal), rescue)
            await self._file.open()
            await self.refresh()
        if rescued:
            # Whatever the limit is: they were acknowledged.
            group = [self._append_of(one, None) for one in rescued]
            await self._file.run(partial(self._insert, group, math.inf))
        if not self.depth.waiting:
            await asyncio.to_thread(self._reserve.keep)

    async def _rescue(self, found: list[Revocation], rescue: Path) -> None:
        """Into a new file first; only when it is whole does the damaged one make room for it."""
        for file_in_the_way in (*files_of(rescue), self._reserve.path):
            await asyncio.to_thread(file_in_the_way.unlink, missing_ok=True)
        file = SqliteFile(rescue, SCHEMA, synchronous="FULL", check=False)
        try:
            await file.open()
            group = [self._append_of(one, None) for one in found]
            await file.run(partial(self._insert, group, math.inf))
        finally:
            await file.close()
        await asyncio.to_thread(move_aside, self.path, rescue)

    async def _open_file(self) -> None:
        """Also on a full disk: what is in the file can be applied and deleted."""
        try:
            await self._file.open()
        except sqlite3.OperationalError as error:
            if is_damaged(error, self.path) or not self._reserve.path.exists():
                raise
            await asyncio.to_thread(self._reserve.give_up)
            await self._file.open()

    async def close(self) -> None:
        """Let the commit under way end, and close."""
        if self._committing is not None:
            await asyncio.wait([self._committing])
        await self._file.close()

    @property
    def fault(self) -> str | None:
        """Why it takes no entry now: ``full`` or ``disk``."""
        if self._disk_fault:
            return "disk"
        return "full" if self.depth.bytes >= self._full_at else None

    async def probe(self) -> None:
        """Learn whether a write succeeds; `fault` tells."""
        await self._guarded(
            lambda db: db.execute("INSERT OR REPLACE INTO probe VALUES (1, random())")
        )

    # -- taking entries ---------------------------------------------------------------------

    async def append(self, revocation: Revocation, *, refused: str | None = None) -> bool:
        """Write an entry durably. False: the same logout of this app is in the journal already.

        ``refused`` says why Redis refuses it for its own sake: it is set aside at once. Raises
        `JournalFault`.
        """
        one = self._append_of(revocation, refused)
        self._appends.append(one)
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        return await one.done

    @staticmethod
    def _append_of(revocation: Revocation, refused: str | None) -> Append:
        record = encode(revocation)
        return Append(
            key=revocation.once_key or hashlib.sha256(record).hexdigest(),
            accepted_at=revocation.received_at,
            record=record,
            refused=refused,
            done=asyncio.get_running_loop().create_future(),
        )

    async def _commit(self) -> None:
        """Group after group, for as long as something waits: one fsync for each group."""
        while self._appends:
            group, self._appends = self._appends, []
            results = None
            try:
                results = await self._guarded(partial(self._insert, group, self._max_bytes))
            except Exception:
                # A fault of ours must not leave those who wait without an answer.
                log.exception("journal", outcome="failed", error="internal")
            for one, result in zip(group, results or ["disk"] * len(group), strict=True):
                one.settle(result)
        self._committing = None

    def _insert(
        self, group: Sequence[Append], most: float, connection: sqlite3.Connection
    ) -> list[bool | str]:
        results: list[bool | str] = []
        depth = self.depth
        for one in group:
            found = connection.execute(
                "SELECT id, refused FROM entries WHERE key = ?", (one.key,)
            ).fetchone()
            if found is not None:
                # It comes again, and not because Redis refuses it: another try.
                again = found[1] is not None and one.refused is None
                if again:
                    connection.execute("UPDATE entries SET refused = NULL WHERE id = ?", found[:1])
                    depth.waiting, depth.set_aside = depth.waiting + 1, depth.set_aside - 1
                results.append(again)
                continue
            if depth.bytes + len(one.record) > most:
                results.append("full")
                self._full_at = depth.bytes
                continue
            connection.execute(
                "INSERT INTO entries (key, accepted_at, record, refused) VALUES (?, ?, ?, ?)",
                (one.key, one.accepted_at, one.record, one.refused),
            )
            results.append(True)
            depth.bytes += len(one.record)
            depth.waiting += one.refused is None
            depth.set_aside += one.refused is not None
        depth.oldest_at = oldest(connection)
        return results

    async def _guarded(self, work: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """Run ``work``; None, and `fault`, when the disk does not take it."""
        try:
            result = await self._file.run(work)
        except (sqlite3.Error, OSError) as error:
            if not self._disk_fault:
                log.error("journal", outcome="failed", error=_name(error))
            self._disk_fault = True
            with contextlib.suppress(sqlite3.Error, OSError):
                await self.refresh()  # what was counted did not happen
            return None
        if self._disk_fault:
            log.warning("journal", outcome="recovered")
        self._disk_fault = False
        return result

    # -- giving them back -------------------------------------------------------------------

    async def read(self, *, after: int, limit: int, refused: bool = False) -> list[Entry]:
        """Entries with a higher id than ``after``: those that wait, or those set aside."""
        entries: list[Entry] = []
        damaged: list[tuple[int, str]] = []
        while not entries:
            rows = await self._file.run(partial(select, after=after, limit=limit, refused=refused))
            if not rows:
                break
            after = rows[-1][0]
            for number, record, why in rows:
                try:
                    if number not in self._applied:
                        entries.append(Entry(number, decode(record or b""), why))
                except DamagedRecord as error:
                    damaged.append((number, f"damaged: {error}"))
        if damaged and not refused:
            await self.set_aside(damaged)
        return entries

    async def remove(self, ids: Sequence[int] = ()) -> None:
        """Delete what was applied, also when the disk is full; never raises ``sqlite3.Error``.

        What a disk does not let go is not given back by `read` any more, and deleted with the
        next call that can.
        """
        wanted = [*ids, *self._applied]
        for start in range(0, len(wanted), _MOST_AT_ONCE):
            await self._remove(wanted[start : start + _MOST_AT_ONCE])
        if self._applied:
            with contextlib.suppress(sqlite3.Error):
                await self.refresh()
        elif wanted and not self.depth.waiting:
            await asyncio.to_thread(self._reserve.keep)

    async def _remove(self, ids: Sequence[int]) -> None:
        self.written.difference_update(ids)
        for attempt in (1, 2):
            try:
                await self._file.run(partial(delete, ids=ids, depth=self.depth))
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):
                    await self.refresh()  # what was counted did not happen
                if attempt == 1:
                    await asyncio.to_thread(self._reserve.give_up)
                elif not self._applied:
                    log.error("journal", outcome="not_deleted", error=_name(error))
            else:
                if not self._applied.isdisjoint(ids):
                    self._applied.difference_update(ids)
                    await self.refresh()
                return
        self._applied.update(ids)

    async def set_aside(self, refused: Sequence[tuple[int, str]]) -> None:
        """Keep entries that can not be applied out of the others' way; each with the reason."""

        def mark(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "UPDATE entries SET refused = ? WHERE id = ?", [(why, one) for one, why in refused]
            )
            self._measure(connection)

        for _, why in refused:
            log.error("journal", outcome="set_aside", error=why)
        await self._file.run(mark)

    async def put_back(self) -> int:
        """Let those that were set aside wait again; returns how many."""

        def unmark(connection: sqlite3.Connection) -> int:
            count = connection.execute(PUT_BACK).rowcount
            self._measure(connection)
            return count

        return await self._file.run(unmark)

    async def refresh(self) -> None:
        """Count anew: the command line can change what is there."""
        await self._file.run(self._measure)

    def _measure(self, connection: sqlite3.Connection) -> None:
        self.depth = depth_of(connection)
        self.depth.waiting -= len(self._applied)


def _name(error: Exception) -> str:
    """SQLite's name of its error (``SQLITE_FULL``), without a word of the data."""
    return str(getattr(error, "sqlite_errorname", None) or type(error).__name__)
