"""A journal that was cut short or overwritten: kept aside, and searched for what is readable."""

import logging
import sqlite3
import time
from pathlib import Path

from app.revocation import Revocation

from .record import DamagedRecord, decode, records_in
from .sqlite_file import files_of

log = logging.getLogger(__name__)

_DAMAGED = {"SQLITE_CORRUPT", "SQLITE_NOTADB", None}
"""SQLite's names for it; None: the check of the whole file found something."""


def is_damaged(error: sqlite3.Error) -> bool:
    """Whether the file's content is at fault, and not its permissions or the disk."""
    name = getattr(error, "sqlite_errorname", None)
    return name in _DAMAGED or str(name).startswith("SQLITE_CORRUPT")


def move_damaged(path: Path) -> list[Revocation]:
    """Give the files another name; returns every revocation of which a whole record is there.

    Searches the bytes and not the tables: whatever page was hit, the others' records stand
    where they stood. One that was applied already may be among them; it changes nothing.
    """
    suffix = f".damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    found: dict[bytes, Revocation] = {}
    unreadable = 0
    for file in files_of(path):
        if not file.exists():
            continue
        for record in records_in(file.read_bytes()):
            try:
                found[record] = decode(record)
            except DamagedRecord:
                unreadable += 1
        file.rename(file.with_name(file.name + suffix))
    log.critical(
        "journal outcome=damaged kept=%d unreadable=%d moved_to=%s",
        len(found),
        unreadable,
        path.name + suffix,
    )
    return list(found.values())
