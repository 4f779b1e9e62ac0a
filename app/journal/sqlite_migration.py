"""Moves the entries of an earlier release's journal, a SQLite file, into the log.

The file is deleted when its entries are durable in the log, so a start that fails can be repeated.
A damaged file is kept under another name, and every whole record in its bytes is taken. Some of
these were applied already: that is harmless.
"""

import contextlib
import sqlite3
import time
from pathlib import Path

from app.journal.pending_log import PendingLog, encode_entry, key_of
from app.journal.record import DamagedRecord, decode, records_in
from app.log import new_log
from app.revocation import Revocation

log = new_log(__name__)

_Row = tuple[Revocation, str | None]


def migrate(path: Path, pending: PendingLog) -> None:
    """Move the entries of the file at ``path``, if there is one. Raises ``OSError``."""
    path.with_name(path.name + ".reserve").unlink(missing_ok=True)
    # The second is what an interrupted repair by the earlier release has left.
    for old in (path, path.with_name(path.name + ".rescue")):
        if old.exists():
            _migrate(old, pending)


def _migrate(old: Path, pending: PendingLog) -> None:
    files = [old.with_name(old.name + suffix) for suffix in ("-wal", "-shm", "")]
    files = [file for file in files if file.exists()]
    try:
        rows, damaged = read_sqlite(old), False
    except (sqlite3.Error, DamagedRecord):
        rows, damaged = [row for file in files for row in _readable(file)], True
        log.critical("journal", outcome="damaged", readable=len(rows), file=old.name)
    entries = {key_of(revocation): (revocation, refused) for revocation, refused in rows}
    new = [key for key in entries if key not in pending]
    for start in range(0, len(new), 1000):
        pending.append(
            [
                encode_entry(entries[key][0], key, refused=entries[key][1])
                for key in new[start : start + 1000]
            ]
        )
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for file in files:
        if damaged:
            file.rename(file.with_name(f"{file.name}.damaged-{stamp}"))
        else:
            file.unlink(missing_ok=True)
    log.warning("journal", outcome="migrated", entries=len(rows), file=old.name)


def read_sqlite(path: Path) -> list[_Row]:
    """Return the entries of the file. Raises ``sqlite3.Error`` or `DamagedRecord`."""
    if not path.stat().st_size:
        # Opening it would delete the write-ahead log beside it.
        raise sqlite3.DatabaseError("empty")
    with contextlib.closing(sqlite3.connect(path, timeout=5)) as connection:
        verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        rows = connection.execute(
            "SELECT CAST(record AS BLOB), CAST(refused AS TEXT) FROM entries ORDER BY id"
        )
        return [(decode(record or b""), refused) for record, refused in rows]


def _readable(file: Path) -> list[_Row]:
    rows: list[_Row] = []
    for record in records_in(file.read_bytes()):
        with contextlib.suppress(DamagedRecord):
            rows.append((decode(record), None))
    return rows
