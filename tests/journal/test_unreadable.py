"""What a journal keeps and cannot read: of another release, damaged, or missing."""

import json
import zlib
from pathlib import Path

import pytest

from app.journal.journal import Journal, directory_of
from app.journal.pending_log import encode_entry, key_of
from tests.support.receiver import config, run_app
from tests.support.revocations import numbered

ROOM = 1 << 24
FIRST = "000000000001.log"


def framed(body: bytes, head: bytes = b"bcl1") -> bytes:
    return b"%b:%d:%08x:%b\n" % (head, len(body), zlib.crc32(body), body)


NEWER = {
    "another version": framed(b'{"key":"k","event":{"received_at":1.5},"new":"form"}', b"bcl2"),
    "another version, no JSON": framed(b"\x00binary", b"bcl2"),
    "another kind of event": framed(
        b'{"key":"k","event":{"v":1,"kind":"new-kind","received_at":1.5},"names":[],"life":1}'
    ),
}
"""Whole records that a later release may have written."""


async def filled(path: Path, *numbers: int) -> Path:
    """A journal with these entries; returns its only file."""
    journal = Journal(path, max_bytes=ROOM)
    await journal.open()
    for number in numbers:
        await journal.append(numbered(number))
    await journal.close()
    return directory_of(path) / FIRST


def commands(directory: Path, action: str) -> tuple[int, str]:
    (directory / "settings.toml").write_text(
        config("redis://127.0.0.1:1/0", 'issuer = "https://op.example"')
    )
    ended = run_app("journal", "--config", "settings.toml", action, cwd=directory)
    return ended.returncode, ended.stdout


@pytest.mark.parametrize("record", NEWER.values(), ids=NEWER)
async def test_a_record_of_a_newer_release_is_kept_listed_and_exported(
    record: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "data/journal.db"
    path.parent.mkdir()
    file = await filled(path, 1)
    with file.open("ab") as log:
        log.write(record)
    status, said = commands(tmp_path, "list")
    assert status == 1
    assert "unreadable: of another release; it is kept" in said
    assert said.endswith("1 waiting, 0 set aside, 1 unreadable\n")
    status, said = commands(tmp_path, "export")
    assert status == 1
    exported = [json.loads(line) for line in said.splitlines()]
    assert exported[0]["event"]["sid"] == "s1"
    assert exported[1]["unreadable"] == "of another release"
    assert exported[1]["record"] == record[:-1].decode("utf-8", "backslashreplace")

    journal = Journal(path, max_bytes=ROOM)
    await journal.open()
    (entry,) = await journal.read(after=0, limit=10)
    await journal.remove([entry])
    assert (journal.depth.waiting, journal.depth.set_aside) == (0, 1)
    await journal.close()
    assert record in b"".join(it.read_bytes() for it in directory_of(path).glob("*.log"))


async def test_a_journal_that_can_be_read_is_exit_status_0(tmp_path: Path) -> None:
    path = tmp_path / "data/journal.db"
    path.parent.mkdir()
    await filled(path, 1, 2)
    assert commands(tmp_path, "list")[0] == 0
    assert commands(tmp_path, "export")[0] == 0


async def test_a_damaged_file_is_named_and_counted_until_it_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "data/journal.db"
    path.parent.mkdir()
    file = await filled(path, 1, 2, 3)
    file.write_bytes(file.read_bytes()[:-20])
    journal = Journal(path, max_bytes=ROOM)
    await journal.open()
    await journal.close()
    assert (journal.depth.waiting, journal.damaged_files) == (2, 1)
    status, said = commands(tmp_path, "list")
    assert status == 1
    assert "damaged; it is kept" in said
    (kept,) = path.parent.glob("*.damaged-*")
    kept.unlink()
    file.write_bytes(b"".join(encode_entry(numbered(n), key_of(numbered(n))) + b"\n" for n in [1]))
    again = Journal(path, max_bytes=ROOM)
    await again.open()
    await again.close()
    assert again.damaged_files == 0


async def test_a_missing_file_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "journal.db"
    file = await filled(path, 1)
    for number in (2, 4):
        other = file.with_name(f"{number:012d}.log")
        other.write_bytes(encode_entry(numbered(number), f"key-{number}") + b"\n")
    journal = Journal(path, max_bytes=ROOM)
    await journal.open()
    await journal.close()
    assert (journal.depth.waiting, journal.damaged_files) == (3, 1)
    assert "missing_files" in caplog.text
