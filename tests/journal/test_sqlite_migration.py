"""Moving the SQLite file of an earlier release into the log loses no entry."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.journal.ack_log import AckLog
from app.journal.files import JournalFiles
from app.journal.inspection import read_entries
from app.journal.journal import Journal
from app.journal.record import encode
from tests.support.receiver import log_events
from tests.support.revocations import numbered, revocation

# The schema of the earlier release.
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
PRAGMAS = (
    "PRAGMA page_size = 16384",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = FAST",
)


def write_old_file(path: Path, count: int, *, killed: bool = False) -> None:
    """Write a journal as the earlier release does; the last entry is set aside.

    ``killed`` leaves the entries in the write-ahead log, as a killed process does.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in PRAGMAS:
            connection.execute(pragma)
        connection.executescript(SCHEMA)
        for n in range(count):
            one, refused = numbered(n), "WRONGTYPE" if n == count - 1 else None
            connection.execute(
                "INSERT INTO entries (key, accepted_at, record, refused) VALUES (?, ?, ?, ?)",
                (one.once_key, one.received_at, encode(one), refused),
            )
        connection.execute("INSERT OR REPLACE INTO probe VALUES (1, random())")
        wal = path.with_name(path.name + "-wal")
        files = {file: file.read_bytes() for file in (path, wal)}
    if killed:
        for file, data in files.items():
            file.write_bytes(data)
    path.with_name(path.name + ".reserve").write_bytes(bytes(4096))


async def contents(path: Path) -> tuple[list[str], list[str]]:
    """Open the journal at ``path``; returns the pending sessions and those set aside."""
    journal = Journal(path, max_bytes=1000)
    await journal.open()
    try:
        waiting, aside = [
            await journal.read(after=0, limit=10_000, refused=refused) for refused in (False, True)
        ]
    finally:
        await journal.close()
    return tuple([str(entry.revocation.sid) for entry in entries] for entries in (waiting, aside))  # type: ignore[return-value]


def sids(numbers: range) -> list[str]:
    return [f"s{n}" for n in numbers]


@pytest.mark.parametrize("killed", [False, True], ids=["after a stop", "after a kill"])
async def test_entries_of_an_earlier_release_are_moved_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, killed: bool
) -> None:
    """Regardless of the limit in bytes, because they were acknowledged."""
    path = tmp_path / "journal.db"
    write_old_file(path, 2500, killed=killed)
    assert len(list(read_entries(path))) == 2500, "a command sees them before the receiver starts"
    for _ in range(2):
        assert await contents(path) == (sids(range(2499)), ["s2499"])
    assert {file.name for file in tmp_path.iterdir()} == {"journal.db.pending"}  # noqa: ASYNC240
    assert len(log_events(caplog, "journal", outcome="migrated", entries=2500)) == 1
    assert [entry.refused for entry in read_entries(path)][-1] == "WRONGTYPE"


async def test_an_interrupted_move_is_repeated(tmp_path: Path) -> None:
    """The process ended before the old file was deleted."""
    path = tmp_path / "journal.db"
    write_old_file(path, 20)
    old = path.read_bytes()
    await contents(path)
    path.write_bytes(old)
    assert await contents(path) == (sids(range(19)), ["s19"])


async def test_files_of_ended_processes_are_moved_by_the_process_that_adopts_them(
    tmp_path: Path,
) -> None:
    write_old_file(tmp_path / "journal-1.db", 5)
    files = JournalFiles(tmp_path / "journal.db")
    journal = Journal(files.claim(), max_bytes=1 << 20)
    await journal.open()
    ack_log = AckLog(None, window=3600, max_bytes=1 << 20)
    assert await files.adopt_orphans(journal, ack_log) is True
    assert (journal.depth.waiting, journal.depth.set_aside) == (4, 1)
    assert not list(tmp_path.glob("journal-1.db*[!k]"))  # noqa: ASYNC240  the lock stays
    await journal.close()
    files.release()


@pytest.mark.parametrize(
    ("start", "length", "lost"),
    [(0, 100, 0), (None, 40, 1)],
    ids=["its head", "a record"],
)
async def test_every_intact_record_of_a_damaged_file_is_moved_and_the_file_is_kept(
    start: int | None, length: int, lost: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"
    write_old_file(path, 20)
    data = bytearray(path.read_bytes())
    if start is None:
        start = data.index(b"bcl1:") + 60
    data[start : start + length] = b"\xaa" * length
    path.write_bytes(data)
    with pytest.raises(OSError, match="when it starts"):
        list(read_entries(path))
    waiting, aside = await contents(path)
    assert len(waiting + aside) == 20 - lost
    (kept,) = tmp_path.glob("journal.db.damaged-*")  # noqa: ASYNC240
    assert kept.read_bytes() == bytes(data)
    assert log_events(caplog, "journal", outcome="damaged", readable=20 - lost)
    assert await contents(path) == (waiting, aside)


async def test_a_write_ahead_log_without_its_file_is_read(tmp_path: Path) -> None:
    """SQLite would delete it."""
    path = tmp_path / "journal.db"
    write_old_file(path, 20, killed=True)
    path.write_bytes(b"")
    waiting, _ = await contents(path)
    assert sorted(waiting) == sorted(sids(range(20)))


@pytest.mark.parametrize(
    "place",
    ["the header", "the first salt", "a page", "a checksum", "the last frame's salt"],
)
async def test_a_damaged_write_ahead_log_loses_no_intact_record(
    place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite ignores the rest of it, and deletes it."""
    path = tmp_path / "journal.db"
    write_old_file(path, 60, killed=True)
    wal = path.with_name("journal.db-wal")
    data = bytearray(wal.read_bytes())
    frames = range(32, len(data), 24 + 16384)
    start = {
        "the header": 24,
        "the first salt": 16,
        "a page": frames[len(frames) // 2] + 24 + 6000,
        "a checksum": frames[len(frames) // 2] + 16,
        "the last frame's salt": frames[-1] + 12,
    }[place]
    data[start : start + 4] = bytes(0xFF - byte for byte in data[start : start + 4])
    wal.write_bytes(data)
    waiting, aside = await contents(path)
    assert sorted(waiting + aside) == sorted(sids(range(60)))
    assert log_events(caplog, "journal", outcome="damaged", readable=60)
    (kept,) = tmp_path.glob("journal.db-wal.damaged-*")  # noqa: ASYNC240
    assert kept.read_bytes() == data
    assert not path.exists()


async def test_frames_of_an_earlier_generation_are_no_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite starts to write from the beginning again once a checkpoint is complete."""
    path = tmp_path / "journal.db"
    write_old_file(path, 20, killed=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint").fetchone()
        connection.execute("DELETE FROM entries WHERE id <= 5")
        files = {file: file.read_bytes() for file in (path, path.with_name("journal.db-wal"))}
    for file, data in files.items():
        file.write_bytes(data)
    assert await contents(path) == (sids(range(5, 19)), ["s19"])
    assert not log_events(caplog, "journal", outcome="damaged")
    assert {file.name for file in tmp_path.iterdir()} == {"journal.db.pending"}  # noqa: ASYNC240


async def test_a_message_repeated_after_the_move_is_recognized(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    write_old_file(path, 3)
    journal = Journal(path, max_bytes=1 << 20)
    await journal.open()
    assert await journal.append(numbered(0)) is False
    assert await journal.append(revocation("wiki")) is True
    await journal.close()
