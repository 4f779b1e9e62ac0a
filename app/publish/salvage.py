"""A journal that was cut short or overwritten: kept aside, and searched for what is readable.

SQLite reports a damaged file, but passes over a damaged write-ahead log without a word: from
the first frame on whose sum is wrong it takes all for what an older log has left. So both are
searched for whole records, whatever page was hit. One that was applied already may be among
them; it changes nothing.
"""

import contextlib
import logging
import sqlite3
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from app.revocation import Revocation

from .record import DamagedRecord, decode, records_in
from .sqlite_file import files_of

log = logging.getLogger(__name__)

_DAMAGED = {"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR", None}
"""SQLite's names for it. ``ERROR``: a schema that was hit, for our own statements are right; None:
the check of the whole file found something."""

# https://sqlite.org/walformat.html: a head, then frames: each a head and one page. A log that
# begins anew adds 1 to its first salt and leaves the old one's frames behind its own.
_WAL_HEAD, _FRAME_HEAD = 32, 24
_OLDER_LOGS = 1 << 24


def is_damaged(error: sqlite3.Error) -> bool:
    """Whether the file's content is at fault, and not its permissions or the disk."""
    name = getattr(error, "sqlite_errorname", None)
    return name in _DAMAGED or str(name).startswith("SQLITE_CORRUPT")


def log_of(path: Path) -> bytes:
    """The write-ahead log that an end without a close has left; to be read before SQLite does.

    Raises ``sqlite3.DatabaseError`` where the file to it is empty: SQLite would delete the log.
    """
    wal = _read(files_of(path)[1])
    if wal and (not path.exists() or not path.stat().st_size):
        raise sqlite3.DatabaseError("a log without its file")
    return wal


def left_in_log(path: Path, wal: bytes) -> list[Revocation]:
    """What stands in the log behind the frames that SQLite has read, where it is damaged.

    ``wal`` is what `log_of` has returned; the file is open. A copy of the log is kept.
    """
    head = wal[:_WAL_HEAD]
    frame = _FRAME_HEAD + int.from_bytes(head[8:12])
    # The index beside the log, as the same page describes it: how many frames are good.
    read = int.from_bytes(_read(files_of(path)[2])[16:20], sys.byteorder)
    rest = wal[_WAL_HEAD + read * frame :] if read else wal
    salt = int.from_bytes(head[16:20])
    behind = (rest[at + 8 : at + 12] for at in range(0, len(rest), frame))
    older = (1 <= (salt - int.from_bytes(one)) % (1 << 32) < _OLDER_LOGS for one in behind if one)
    if read and all(older):
        return []
    found, unreadable = _decoded(records_in(rest))
    if found:
        aside = files_of(path)[1]
        aside = aside.with_name(aside.name + _suffix())
        aside.write_bytes(wal)
        aside.chmod(0o600)
        log.critical(
            "journal outcome=damaged_log kept=%d unreadable=%d copied_to=%s",
            len(found), unreadable, aside.name,
        )  # fmt: skip
    return found


def move_damaged(path: Path, wal: bytes) -> list[Revocation]:
    """Give the files another name; returns every revocation of which a whole record is there."""
    suffix = _suffix()
    data = [file.read_bytes() for file in files_of(path) if file.exists()]
    found, unreadable = _decoded(record for part in (*data, wal) for record in records_in(part))
    for file in files_of(path):
        with contextlib.suppress(FileNotFoundError):
            file.rename(file.with_name(file.name + suffix))
    log.critical(
        "journal outcome=damaged kept=%d unreadable=%d moved_to=%s",
        len(found),
        unreadable,
        path.name + suffix,
    )
    return found


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
