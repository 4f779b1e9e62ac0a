"""The journal's table, how much is in it, and how another process looks into it."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.journal.record import DamagedRecord, decode, records_in
from app.revocation import Revocation

SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,     -- the same logout of the same app has one place only
    accepted_at REAL NOT NULL,    -- epoch seconds
    record BLOB NOT NULL,
    refused TEXT                  -- why Redis refuses this one; NULL: it waits
);
CREATE TABLE IF NOT EXISTS probe (id INTEGER PRIMARY KEY, turn INTEGER NOT NULL);
"""

# Only the thread of the file counts, so that no count is ever of another moment than the rows.
_COUNT = (
    "SELECT coalesce(sum(refused IS NULL), 0), count(*), coalesce(sum(length(record)), 0)"
    " FROM entries"
)


PUT_BACK = "UPDATE entries SET refused = NULL WHERE refused IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Entry:
    """A revocation in the journal. ``refused`` says why it is set aside; None: it waits."""

    id: int
    revocation: Revocation
    refused: str | None


@dataclass(slots=True)
class Depth:
    """What is in the journal. ``bytes`` are those of the records."""

    waiting: int = 0
    set_aside: int = 0
    bytes: int = 0
    oldest_at: float | None = None
    """When the first of those that wait was received, in epoch seconds."""


def depth_of(connection: sqlite3.Connection) -> Depth:
    """What is there now."""
    waiting, total, size = connection.execute(_COUNT).fetchone()
    return Depth(waiting, total - waiting, size, oldest(connection))


def see_that_all_are_whole(connection: sqlite3.Connection) -> None:
    """Raise ``sqlite3.DatabaseError`` where a row is not what was written.

    SQLite's own check passes over a byte of a row's head that was hit, and another record is read
    from there, or another reason.
    """
    for record, refused in connection.execute("SELECT CAST(record AS BLOB), refused FROM entries"):
        reason_is_whole = refused is None or (isinstance(refused, str) and refused)
        if not reason_is_whole or next(records_in(record or b""), None) != record:
            raise sqlite3.DatabaseError("a row is not whole")


def oldest(connection: sqlite3.Connection) -> float | None:
    """When the first of those that wait was received, in epoch seconds."""
    row = connection.execute(
        "SELECT CAST(accepted_at AS REAL) FROM entries WHERE refused IS NULL ORDER BY id LIMIT 1"
    ).fetchone()
    return row and float(row[0])


def select(
    connection: sqlite3.Connection, *, after: int, limit: int, refused: bool
) -> list[tuple[int, bytes | None, str | None]]:
    """Id, record and reason of the entries behind ``after``: set aside, or waiting."""
    which = "refused IS NOT NULL" if refused else "refused IS NULL"
    return connection.execute(
        f"SELECT id, CAST(record AS BLOB), refused FROM entries WHERE {which} AND id > ?"  # noqa: S608
        " ORDER BY id LIMIT ?",
        (after, limit),
    ).fetchall()


def delete(connection: sqlite3.Connection, ids: Sequence[int], depth: Depth) -> None:
    """Delete entries, and take them off ``depth``."""
    which = f"WHERE id IN ({','.join('?' * len(ids))})"
    waiting, total, size = connection.execute(f"{_COUNT} {which}", list(ids)).fetchone()
    connection.execute(f"DELETE FROM entries {which}", list(ids))  # noqa: S608
    depth.waiting -= waiting
    depth.set_aside -= total - waiting
    depth.bytes -= size
    depth.oldest_at = oldest(connection)


def read_depth(path: Path) -> Depth:
    """What is in a journal that another process may have open. Raises ``sqlite3.Error``."""
    with contextlib.closing(_look(path)) as connection:
        return depth_of(connection)


def read_entries(path: Path) -> Iterator[Entry]:
    """The entries of such a journal. Raises ``sqlite3.Error``; passes over damaged ones."""
    with contextlib.closing(_look(path)) as connection:
        for number, record, refused in connection.execute(
            "SELECT id, CAST(record AS BLOB), refused FROM entries ORDER BY id"
        ):
            with contextlib.suppress(DamagedRecord):
                yield Entry(number, decode(record or b""), refused)


def put_back_in(path: Path) -> int:
    """`Journal.put_back` for a journal that another process has open; it sees them soon."""
    with contextlib.closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as connection:
        return connection.execute(PUT_BACK).rowcount


def _look(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)
