"""A journal that was cut short or overwritten: kept aside, and searched for what is readable.

SQLite reports a damaged file, but passes over a damaged write-ahead log without a word: from
the first frame on whose sum is wrong it takes all for what an older log has left. So both are
searched for whole records, whatever page was hit. One that was applied already may be among
them; it changes nothing.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

from app.journal.record import DamagedRecord, decode, records_in
from app.journal.sqlite import files_of
from app.log import new_log
from app.revocation import Revocation

log = new_log(__name__)

_DAMAGED = {"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_TOOBIG", "SQLITE_ERROR", None}
"""SQLite's names for it. ``TOOBIG``: a length in the schema's page that was hit; ``ERROR``: a
schema that was hit, for our own statements are right; None: the check of the whole file found
something."""

# https://sqlite.org/walformat.html: a head, then frames: each a head and one page. A log that
# begins anew adds 1 to its first salt and leaves the old one's frames behind its own.
_WAL_HEAD, _FRAME_HEAD = 32, 24
_OLDER_LOGS = 1 << 24


def is_damaged(error: sqlite3.Error, path: Path | None = None) -> bool:
    """Whether the file's content is at fault, and not its permissions or the disk."""
    name = getattr(error, "sqlite_errorname", None)
    if name == "SQLITE_READONLY" and path is not None:
        # One byte of the head says who may write; the file system does not forbid it.
        return os.access(path, os.W_OK)
    return name in _DAMAGED or str(name).startswith("SQLITE_CORRUPT")


def log_of(path: Path) -> bytes:
    """The write-ahead log that an end without a close has left; to be read before SQLite does.

    Raises ``sqlite3.DatabaseError`` where the file to it is empty: SQLite would delete the log.
    """
    wal = _read(files_of(path)[1])
    if wal and (not path.exists() or not path.stat().st_size):
        raise sqlite3.DatabaseError("a log without its file")
    return wal


def left_in_log(path: Path, wal: bytes, frames: int) -> list[Revocation]:
    """What stands in the log behind the frames that SQLite has read, where it is damaged.

    ``wal`` is what `log_of` has returned, ``frames`` how many of it SQLite has read. A copy of the
    log is kept. Nothing that SQLite has open is opened here: closing it would drop the locks of
    the whole process, SQLite's among them.
    """
    head = wal[:_WAL_HEAD]
    frame = _FRAME_HEAD + int.from_bytes(head[8:12])
    rest = wal[_WAL_HEAD + frames * frame :] if frames else wal
    salt = int.from_bytes(head[16:20])
    behind = (rest[at + 8 : at + 12] for at in range(0, len(rest), frame))
    older = (1 <= (salt - int.from_bytes(one)) % (1 << 32) < _OLDER_LOGS for one in behind if one)
    if frames and all(older):
        return []
    found, unreadable = _decoded(records_in(rest))
    if found:
        aside = files_of(path)[1]
        aside = aside.with_name(aside.name + _suffix())
        aside.write_bytes(wal)
        aside.chmod(0o600)
        log.critical(
            "journal", outcome="damaged_log",
            kept=len(found), unreadable=unreadable, copied_to=aside.name,
        )  # fmt: skip
    return found


def read_damaged(path: Path, wal: bytes) -> list[Revocation]:
    """Every revocation of which a whole record is in the files; they must be closed."""
    data = [file.read_bytes() for file in files_of(path) if file.exists()]
    found, unreadable = _decoded(record for part in (*data, wal) for record in records_in(part))
    log.critical("journal", outcome="damaged", readable=len(found), unreadable=unreadable)
    return found


def move_aside(path: Path, rescued: Path) -> None:
    """Give the damaged files another name, and ``rescued`` theirs."""
    suffix = _suffix()
    for file in files_of(path):
        with contextlib.suppress(FileNotFoundError):
            file.rename(file.with_name(file.name + suffix))
    rescued.rename(path)
    log.critical("journal", outcome="replaced", moved_to=path.name + suffix)


def take_rescued(path: Path, rescued: Path) -> None:
    """Finish what `move_aside` had begun when the process ended."""
    if rescued.exists() and not path.exists():
        rescued.rename(path)


def _decoded(records: Iterable[bytes]) -> tuple[list[Revocation], int]:
    """The revocations of records, and how many can not be understood."""
    found: dict[bytes, Revocation] = {}
    unreadable = 0
    for record in records:
        try:
            found[record] = decode(record)
        except DamagedRecord:
            unreadable += 1
    return list(found.values()), unreadable


def _suffix() -> str:
    return f".damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"


def _read(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""
