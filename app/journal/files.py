"""Which journal file is ours: each process has its own, whatever path they share.

    journal.db   journal-1.db   journal-2.db ...      the first one whose lock is free
    journal.db.lock                                   held for as long as its process lives
    journal.db.accepted/                              the copy of what was acknowledged lately

With one file for all, four processes waited up to 3.4 s for each other's fsync.
"""

import fcntl
import sqlite3
from pathlib import Path
from typing import IO

from app.journal.ack_log import AckLog
from app.journal.append import JournalFault
from app.journal.journal import Journal
from app.journal.sqlite import files_of
from app.log import new_log

log = new_log(__name__)

# More processes than any machine's cores; a bound, so that a directory in which nothing can be
# locked ends in an error.
_MOST_FILES = 256


class JournalFiles:
    """The files of one configured path, and the lock on ours."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: IO[str] | None = None
        self.own = path

    def claim(self) -> Path:
        """Take the first file that nobody holds. Raises ``OSError``."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for candidate in (self._numbered(n) for n in range(_MOST_FILES)):
            if (lock := try_lock(candidate)) is not None:
                self.own, self._lock = candidate, lock
                return candidate
        raise OSError(f"{_MOST_FILES} processes use this journal already")

    def release(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def all(self) -> list[Path]:
        """Every journal file that there is."""
        return [path for path in (self._numbered(n) for n in range(_MOST_FILES)) if path.exists()]

    async def adopt_orphans(self, journal: Journal, accepted: AckLog) -> bool:
        """Take over what a process has left that is gone. True when there was something."""
        adopted = False
        for path in self.all():
            if path == self.own or (lock := try_lock(path)) is None:
                continue
            with lock:
                try:
                    adopted |= await self._adopt(path, journal, accepted)
                except (OSError, sqlite3.Error, JournalFault) as error:
                    # The others can be taken over all the same, and this one at the next look.
                    why = type(error).__name__
                    log.error("journal", outcome="not_adopted", error=why, file=path.name)
        return adopted

    async def _adopt(self, path: Path, journal: Journal, accepted: AckLog) -> bool:
        """Take over one file, whose lock we hold. False: something had to stay where it is."""
        orphan = Journal(path, max_bytes=0)
        try:
            await orphan.open()
            moved = await _move(orphan, journal)
            left = orphan.depth.waiting + orphan.depth.set_aside
        finally:
            await orphan.close()
        copy = copy_of(path)
        if copy.exists():
            accepted.adopt(copy)
        if left:
            return False
        for file in (*files_of(path), path.with_name(path.name + ".reserve")):
            file.unlink(missing_ok=True)
        log.warning("journal", outcome="adopted", entries=moved, file=path.name)
        return True

    def _numbered(self, number: int) -> Path:
        if number == 0:
            return self._path
        return self._path.with_name(f"{self._path.stem}-{number}{self._path.suffix}")


def copy_of(journal: Path) -> Path:
    """The directory of the copy that belongs to this journal."""
    return journal.with_name(journal.name + ".accepted")


def try_lock(path: Path) -> IO[str] | None:
    """The lock on a journal file; None when another process has it."""
    lock = path.with_name(path.name + ".lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


async def _move(orphan: Journal, journal: Journal) -> int:
    """Into ours first, durably; then out of the other."""
    moved = 0
    for refused in (False, True):
        while entries := await orphan.read(after=0, limit=500, refused=refused):
            for entry in entries:
                await journal.append(entry.revocation, refused=entry.refused)
            await orphan.remove([entry.id for entry in entries])
            moved += len(entries)
    return moved
