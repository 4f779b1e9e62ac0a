"""Moves the entries of an earlier release's journal, a SQLite file, into the log.

The file is deleted when its entries are durable in the log, so a start that fails can be repeated.
A damaged file is kept under another name, and every whole record in its bytes is taken. Some of
these were applied already: that is harmless.
"""

import contextlib
import sqlite3
import struct
import time
from pathlib import Path

from app.journal.pending_log import PendingLog, encode_entry, key_of
from app.journal.record import DamagedRecord, decode, records_in
from app.log import new_log
from app.revocation import Revocation

log = new_log(__name__)

_WAL_HEADER, _FRAME_HEADER = 32, 24

# Each reuse of the write-ahead log adds 1 to the generation in its header.
_GENERATIONS = 1 << 16

_Row = tuple[Revocation, str | None]


def migrate(path: Path, pending: PendingLog) -> None:
    """Move the entries of the file at ``path``, if there is one. Raises ``OSError``."""
    path.with_name(path.name + ".reserve").unlink(missing_ok=True)
    # The second is what an interrupted repair by the earlier release has left.
    for old in (path, path.with_name(path.name + ".rescue")):
        if old.exists():
            _migrate(old, pending)


def _migrate(old: Path, pending: PendingLog) -> None:
    wal = old.with_name(old.name + "-wal")
    damaged = _is_damaged(wal)
    try:
        rows = read_sqlite(old)
    except (sqlite3.Error, DamagedRecord):
        rows, damaged = _readable(old), True
    entries = {key_of(revocation): (revocation, refused) for revocation, refused in rows}
    if damaged:
        # SQLite ignores a write-ahead log from its first damaged frame on.
        for revocation, refused in _readable(wal):
            entries.setdefault(key_of(revocation), (revocation, refused))
        log.critical("journal", outcome="damaged", readable=len(entries), file=old.name)
    new = [key for key in entries if key not in pending]
    for start in range(0, len(new), 1000):
        pending.append(
            [
                encode_entry(entries[key][0], key, refused=entries[key][1])
                for key in new[start : start + 1000]
            ]
        )
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    # The file itself last: without it, the others would not be looked at.
    for suffix in ("-shm", "-wal", ""):
        file = old.with_name(old.name + suffix)
        if damaged and file.exists():
            file.rename(file.with_name(f"{file.name}.damaged-{stamp}"))
        else:
            file.unlink(missing_ok=True)
    log.warning("journal", outcome="migrated", entries=len(entries), file=old.name)


def read_sqlite(path: Path) -> list[_Row]:
    """Return the entries of the file. Raises ``sqlite3.Error`` or `DamagedRecord`."""
    if not path.stat().st_size:
        raise sqlite3.DatabaseError("empty")
    # Read-only: otherwise SQLite deletes the write-ahead log, with what it does not understand.
    address = f"{path.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True, timeout=5)) as connection:
        verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        rows = connection.execute(
            "SELECT CAST(record AS BLOB), CAST(refused AS TEXT) FROM entries ORDER BY id"
        )
        return [(decode(record or b""), refused) for record, refused in rows]


def _is_damaged(wal: Path) -> bool:
    """Whether a write-ahead log has a frame that SQLite ignores (sqlite.org/fileformat2.html).

    A frame of an earlier generation, in the file already, is not damaged.
    """
    data = wal.read_bytes() if wal.exists() else b""
    if not data:
        return False
    if len(data) < _WAL_HEADER:
        return True
    magic, _, page_size, _, generation, salt, *checksum = struct.unpack(">8I", data[:_WAL_HEADER])
    order = ">" if magic & 1 else "<"
    sums = _checksum(data[:24], order, (0, 0))
    is_valid = list(sums) == checksum
    frame_size = _FRAME_HEADER + page_size
    if not is_valid or not 512 <= page_size <= 1 << 16:
        return True
    for start in range(_WAL_HEADER, len(data), frame_size):
        frame = data[start : start + frame_size]
        if len(frame) < frame_size:
            return True
        frame_generation, frame_salt, *checksum = struct.unpack(">4I", frame[8:_FRAME_HEADER])
        if is_valid:
            sums = _checksum(frame[_FRAME_HEADER:], order, _checksum(frame[:8], order, sums))
            is_valid = (frame_generation, frame_salt, *sums) == (generation, salt, *checksum)
        if not is_valid and not 0 < (generation - frame_generation) % 2**32 < _GENERATIONS:
            return True
    return False


def _checksum(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for word, next_word in zip(words, words, strict=True):
        first = (first + word + second) & 0xFFFF_FFFF
        second = (second + next_word + first) & 0xFFFF_FFFF
    return first, second


def _readable(file: Path) -> list[_Row]:
    rows: list[_Row] = []
    for record in records_in(file.read_bytes()) if file.exists() else ():
        with contextlib.suppress(DamagedRecord):
            rows.append((decode(record), None))
    return rows
