"""A SQLite file with a thread of its own: no fsync ever holds up the event loop."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")

# Another process looks into the file (the command line); it never takes long.
_BUSY_SECONDS = 5.0

# How much waits in the write-ahead log before it goes into the file itself: as much room must be
# found on a full disk before anything can be deleted.
LARGEST_WAL = 1 << 20

# A record fits into one page, so that a damaged file can be searched for whole records.
_PAGE_BYTES = 16384


class SqliteFile:
    """One connection, used by one thread. Every method may raise ``sqlite3.Error``.

    ``synchronous`` is SQLite's: ``FULL`` makes a commit outlive a power loss, ``OFF`` only the
    process. ``check`` reads the whole file when it is opened.
    """

    def __init__(self, path: Path | None, schema: str, *, synchronous: str, check: bool) -> None:
        self.path = path
        self._schema = schema
        self._synchronous = synchronous
        self._check = check
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None
        self.frames_read = 0

    async def open(self) -> None:
        """Create the file, or open it and look whether it is whole."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    def _open(self) -> None:
        name = ":memory:" if self.path is None else str(self.path)
        if self.path is not None:
            # Who logged out when is for nobody else of this machine.
            self.path.touch(mode=0o600, exist_ok=True)
            descriptor = os.open(self.path.parent, os.O_RDONLY)
            os.fsync(descriptor)  # the file's name, not only its content
            os.close(descriptor)
        connection = sqlite3.connect(
            name, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            # A text with a byte that was hit must not keep the others from being read.
            connection.text_factory = lambda text: text.decode("utf-8", "replace")
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {LARGEST_WAL // _PAGE_BYTES}")
            # How much of a log that was left behind could be read; its second column.
            self.frames_read = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
            # What was deleted is overwritten where that costs nothing: it names users.
            connection.execute("PRAGMA secure_delete = FAST")
            if (
                self._check
                # Not quick_check: an index that does not fit fails only when something is deleted.
                and (verdict := connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
                != "ok"
            ):
                raise sqlite3.DatabaseError(verdict)  # noqa: TRY301  with the connection closed
            connection.executescript(self._schema)
        except UnicodeDecodeError:
            # SQLite's message holds a name from a schema that was hit.
            connection.close()
            raise sqlite3.DatabaseError("damaged schema") from None
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run ``work`` in the thread, as one transaction: all of it is committed, or nothing."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._transaction, work)

    def _transaction(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        connection = self._connection
        if connection is None:
            raise sqlite3.ProgrammingError("not open")
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    async def leave(self) -> None:
        """Wait for the work under way, and close the file; it can be opened again."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._leave)

    def _leave(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    async def close(self) -> None:
        """`leave`, for good."""
        await self.leave()
        self._thread.shutdown(wait=False)


def files_of(path: Path) -> list[Path]:
    """The file and what SQLite keeps beside it."""
    return [path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")]
