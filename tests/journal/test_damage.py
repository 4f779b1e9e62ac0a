"""A damaged journal opens, keeps every intact record, and keeps the damaged file."""

import asyncio
import errno
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from app.journal.journal import Journal, directory_of
from app.journal.pending_log import encode_entry
from app.journal.record import records_in
from tests.support.receiver import log_events
from tests.support.revocations import numbered

ROOM = 1 << 24

Random = random.Random
Damage = Callable[[Path, Random], None]


async def fill(path: Path, entries: int) -> Path:
    """Write a journal; returns its segment."""
    journal = Journal(path, max_bytes=ROOM)
    await journal.open()
    for start in range(0, entries, 10):
        await asyncio.gather(*(journal.append(numbered(n)) for n in range(start, start + 10)))
    await journal.close()
    (segment,) = directory_of(path).iterdir()
    return segment


def cut(segment: Path, chance: Random) -> None:
    """Cut the file short, but not between two records, which is not detectable."""
    data = segment.read_bytes()
    size = chance.randrange(len(data))
    while data[size - 1 : size + 1].count(b"\n"):
        size = chance.randrange(len(data))
    os.truncate(segment, size)


def overwrite(length: int, *, zeros: bool) -> Damage:
    """Overwrite this many bytes at a random place."""

    def damage(segment: Path, chance: Random) -> None:
        data = bytearray(segment.read_bytes())
        at = chance.randrange(len(data) - length)
        data[at : at + length] = bytes(length) if zeros else chance.randbytes(length)
        segment.write_bytes(data)

    return damage


def misdirect(segment: Path, chance: Random) -> None:
    """Write one block of the file over another, as a misdirected write does."""
    data = bytearray(segment.read_bytes())
    to, source = (chance.randrange(0, len(data) - 4096) for _ in range(2))
    data[to : to + 4096] = data[source : source + 4096]
    segment.write_bytes(data)


def zero_start(segment: Path, _: Random) -> None:
    segment.write_bytes(bytes(100) + segment.read_bytes()[100:])


def replace(content: bytes) -> Damage:
    return lambda segment, _: segment.write_bytes(content) and None


DAMAGES: dict[str, Damage] = {
    "cut": cut,
    "some bytes": overwrite(64, zeros=False),
    "a hole": overwrite(4096, zeros=True),
    "rubbish": overwrite(4096, zeros=False),
    "another block in its place": misdirect,
    "the start": zero_start,
    "zeros": replace(bytes(5000)),
    "no log at all": replace(b"no journal at all"),
}


async def assert_every_intact_record_is_kept(path: Path) -> None:
    """It opens, has every readable record, takes new ones, and opens again."""
    files = list(directory_of(path).iterdir())
    readable = {record for file in files for record in records_in(file.read_bytes())}
    journal = Journal(path, max_bytes=ROOM)
    await journal.open()
    entries = await journal.read(after=0, limit=10_000)
    assert {encode_entry(entry.revocation, entry.key) for entry in entries} == readable
    assert await journal.append(numbered(10_000)) is True
    await journal.remove(entries)
    await journal.close()
    again = Journal(path, max_bytes=ROOM)
    await again.open()
    (entry,) = await again.read(after=0, limit=10)
    assert entry.revocation.event.sid == "s10000"
    await again.close()


async def damage_often(tmp_path: Path, damage: Damage, seed: int, times: int) -> None:
    """Damage fresh copies of one journal, each at another place."""
    chance = Random(seed)
    source = (await fill(tmp_path / "source.db", 120)).read_bytes()
    for turn in range(times):
        path = tmp_path / f"{turn}.db"
        directory_of(path).mkdir()
        segment = directory_of(path) / "000000000001.log"
        segment.write_bytes(source)
        damage(segment, chance)
        damaged = segment.read_bytes()
        await assert_every_intact_record_is_kept(path)
        kept = list(tmp_path.glob(f"{turn}.db.damaged-*"))  # noqa: ASYNC240
        if damaged != source:  # a block may have been written over itself
            assert [file.read_bytes() for file in kept] == [damaged]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_every_intact_record_is_kept(damage: Damage, tmp_path: Path) -> None:
    await damage_often(tmp_path, damage, 4, 5)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_every_intact_record_is_kept_wherever_the_damage_is(
    damage: Damage, tmp_path: Path
) -> None:
    await damage_often(tmp_path, damage, 179214, 100)


async def test_damage_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "journal.db"
    zero_start(await fill(path, 20), Random())
    for _ in range(2):
        journal = Journal(path, max_bytes=ROOM)
        await journal.open()
        assert journal.depth.waiting == 19
        await journal.close()
    assert len(log_events(caplog, "journal", outcome="damaged", readable=19)) == 1


@pytest.mark.parametrize("has_room", [True, False], ids=["a copy", "nothing"])
async def test_without_links_the_damaged_file_is_copied(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    has_room: bool,
) -> None:
    """The log names the file only if it is there."""
    path = tmp_path / "journal.db"
    segment = await fill(path, 20)
    zero_start(segment, Random())
    damaged = segment.read_bytes()

    def failing(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", failing)
    if not has_room:
        monkeypatch.setattr(shutil, "copy", failing)
    journal = Journal(path, max_bytes=ROOM)
    await journal.open()
    assert journal.depth.waiting == 19
    await journal.close()
    kept = list(tmp_path.glob("journal.db.damaged-*"))  # noqa: ASYNC240
    assert [file.read_bytes() for file in kept] == [damaged] * has_room
    named = [{"kept_as": file.name} for file in kept] or [{"not_kept": "EPERM"}]
    assert log_events(caplog, "journal", outcome="damaged", readable=19, **named[0])


async def test_an_intact_log_reports_no_damage_and_restores_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Even if most of its entries are done."""
    path = tmp_path / "journal.db"
    journal = Journal(path, max_bytes=ROOM)
    await journal.open()
    await journal.append(numbered(9998), refused="WRONGTYPE")
    for turn in range(20):
        await asyncio.gather(*(journal.append(numbered(turn * 20 + n)) for n in range(20)))
        await journal.remove(await journal.read(after=0, limit=100))
    await journal.append(numbered(9999))
    await journal.close()
    (segment,) = directory_of(path).iterdir()
    assert len(list(records_in(segment.read_bytes()))) > 400, "entries that are done are in it"
    again = Journal(path, max_bytes=ROOM)
    await again.open()
    (entry,) = await again.read(after=0, limit=10)
    assert entry.revocation.event.sid == "s9999"
    await again.close()
    assert "damaged" not in caplog.text


async def test_rescued_records_need_no_room(tmp_path: Path) -> None:
    """It was acknowledged; the limit applies to new entries."""
    path = tmp_path / "journal.db"
    zero_start(await fill(path, 20), Random())
    journal = Journal(path, max_bytes=1000)
    await journal.open()
    assert (journal.depth.waiting, journal.fault) == (19, "full")
    await journal.close()
