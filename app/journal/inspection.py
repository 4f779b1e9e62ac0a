"""Reads a journal that another process may have open, and asks that process for a retry."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from app.journal.journal import damaged_files, directory_of, retry_request_of
from app.journal.pending_log import Entry, PendingLog, Unreadable, key_of
from app.journal.record import DamagedRecord
from app.journal.sqlite_migration import read_sqlite


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield the entries of a journal. Raises ``OSError``."""
    if path.exists():
        try:
            rows = read_sqlite(path)
        except (sqlite3.Error, DamagedRecord) as error:
            hint = "damaged; the receiver takes what is readable when it starts"
            raise OSError(f"{hint} ({error})") from None
        for number, (revocation, refused) in enumerate(rows, 1):
            yield Entry(number, key_of(revocation), revocation, refused)
    yield from _look(path).entries()


def read_unreadable(path: Path) -> Iterator[tuple[Path, Unreadable | None]]:
    """Yield what a journal keeps and cannot read, each with its file: records of another release,
    and (None) files that were damaged. Raises ``OSError``."""
    pending = _look(path)
    for record in pending.unreadable():
        yield path, record
    for segment, _ in pending.damaged:
        yield segment, None
    for file in damaged_files(path):
        yield file, None


def request_retry(path: Path) -> int:
    """Have the entries that were set aside wait again; returns how many.

    The process that has the journal open sees the request within seconds, or the next one that
    opens it does.
    """
    retry_request_of(path).touch(mode=0o600)
    return _look(path).depth().set_aside


def _look(path: Path) -> PendingLog:
    pending = PendingLog(directory_of(path))
    pending.open(read_only=True)
    return pending
