"""Gives each process a journal of its own, whatever path the processes share.

    journal.db   journal-1.db   journal-2.db ...   the first name whose lock is free
    journal.db.lock                                held as long as the process lives
    journal.db.pending/                            the journal's log
    journal.db.accepted/                           the copy of what was acknowledged recently
    journal.db.retry                               a request of the command line

With one journal for all, four processes waited up to 3.4 s for each other's fsync.
"""

import asyncio
import fcntl
import shutil
from pathlib import Path
from typing import IO

from app.journal.ack_log import AckLog
from app.journal.journal import Journal, JournalFault, directory_of, retry_request_of
from app.journal.segment_log import give_to_owner, make_directory
from app.log import new_log

log = new_log(__name__)

# More processes than any machine has cores. A directory in which nothing can be locked must end
# in an error.
_MAX_FILES = 256


class JournalFiles:
    """The journals of one configured path, and the lock on this process's own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: IO[str] | None = None
        self._left: dict[Path, int] = {}
        """How many entries stay in the journals of processes that have ended."""
        self.own = path

    def claim(self) -> Path:
        """Take the first name that no process holds. Raises ``OSError``."""
        make_directory(self._path.parent)
        for candidate in (self._numbered(n) for n in range(_MAX_FILES)):
            if (lock := try_lock(candidate)) is not None:
                self.own, self._lock = candidate, lock
                return candidate
        raise OSError(f"{_MAX_FILES} processes use this journal already")

    def release(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def all(self) -> list[Path]:
        """Return the paths of the journals that exist; a file is an earlier release's."""
        paths = [self._numbered(n) for n in range(_MAX_FILES)]
        return [path for path in paths if path.exists() or directory_of(path).exists()]

    async def adopt_orphans(self, journal: Journal, ack_log: AckLog) -> bool:
        """Take over the journals of processes that have ended. True when there was something."""
        adopted = False
        if journal.fault:
            return adopted  # it takes none of their entries
        for path in self.all():
            if path == self.own or (lock := try_lock(path)) is None:
                continue
            with lock:
                try:
                    adopted |= await self._adopt(path, journal, ack_log)
                except (OSError, JournalFault) as error:
                    # The others can still be taken over, and this one at the next try.
                    reason = type(error).__name__
                    log.error("journal", outcome="not_adopted", error=reason, file=path.name)
        return adopted

    async def _adopt(self, path: Path, journal: Journal, ack_log: AckLog) -> bool:
        """Take over one journal, whose lock is held. False: something had to stay."""
        orphan = Journal(path, max_bytes=0)
        try:
            await orphan.open()
            moved = await _move(orphan, journal)
            left = orphan.depth.waiting + orphan.depth.set_aside
        finally:
            await orphan.close()
        copy = copy_of(path)
        if copy.exists():
            ack_log.adopt(copy)
        if left:
            if self._left.get(path) != left:
                log.warning("journal", outcome="not_adopted", left=left, file=path.name)
            self._left[path] = left
            return False
        retry_request_of(path).unlink(missing_ok=True)
        shutil.rmtree(directory_of(path))
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
    """Return the lock on a journal; None when another process has it."""
    name = path.with_name(path.name + ".lock")
    lock = name.open("a")
    try:
        give_to_owner(name)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


async def _move(orphan: Journal, journal: Journal) -> int:
    """Append the entries to ours, durably, and then remove them from the other."""
    moved = 0
    for refused in (False, True):
        while entries := await orphan.read(after=0, limit=500, refused=refused):
            appends = (journal.append(each.revocation, refused=each.refused) for each in entries)
            results = await asyncio.gather(*appends, return_exceptions=True)
            faults = [result for result in results if isinstance(result, BaseException)]
            taken = [
                entry
                for entry, result in zip(entries, results, strict=True)
                if not isinstance(result, BaseException)
            ]
            await orphan.remove(taken)
            moved += len(taken)
            if faults:
                raise faults[0]
    return moved
