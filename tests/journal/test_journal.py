"""The journal keeps every entry, once, whatever happens to the process."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import pytest

from app.journal.files import JournalFiles
from app.journal.inspection import request_retry
from app.journal.journal import Journal, JournalFault, directory_of
from app.journal.pending_log import encode_entry, key_of
from app.journal.record import decode
from app.revocation import Revocation
from tests.support.receiver import ROOT, log_events
from tests.support.revocations import numbered, revocation


async def sids(journal: Journal, *, refused: bool = False) -> list[str | None]:
    entries = await journal.read(after=0, limit=1000, refused=refused)
    return [entry.revocation.event.sid for entry in entries]


async def test_entries_are_read_back_in_order_of_arrival(journal: Journal) -> None:
    written = [numbered(n) for n in range(5)]
    for entry in written:
        assert await journal.append(entry) is True
    entries = await journal.read(after=0, limit=3)
    assert [entry.revocation for entry in entries] == written[:3]
    rest = await journal.read(after=entries[-1].id, limit=3)
    assert [entry.revocation for entry in rest] == written[3:]
    assert (journal.depth.waiting, journal.depth.set_aside) == (5, 0)
    assert journal.depth.oldest_at == pytest.approx(written[0].event.received_at, abs=0.001)
    await journal.remove(entries)
    assert await sids(journal) == ["s3", "s4"]
    counted = journal.depth
    await journal.refresh()
    assert journal.depth == counted, "the running count is right"


WRITER = """
import asyncio, sys
from pathlib import Path
from app.journal.journal import Journal
from tests.support.revocations import numbered

async def main():
    journal = Journal(Path(sys.argv[1]), max_bytes=1 << 24)
    await journal.open()
    for n in range(1000):
        await journal.append(numbered(n))
        print(n, flush=True)
        if n == 5:
            await asyncio.sleep(60)

asyncio.run(main())
"""


def test_an_entry_survives_kill_9_right_after_its_answer(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for n in range(6):
            assert process.stdout.readline() == b"%d\n" % n
        process.send_signal(signal.SIGKILL)

    async def read() -> list[str | None]:
        journal = Journal(path, max_bytes=1 << 24)
        await journal.open()
        pending = await sids(journal)
        await journal.close()
        return pending

    assert asyncio.run(read()) == [f"s{n}" for n in range(6)]


async def test_concurrent_appends_share_commits_and_each_has_its_own_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Including a repetition and an entry without room."""
    group = [numbered(n) for n in range(40)]
    journal = Journal(
        tmp_path / "journal.db",
        max_bytes=sum(len(encode_entry(entry, key_of(entry))) for entry in group),
    )
    await journal.open()
    synced: Counter[bool] = Counter()
    fsync = os.fsync

    def counting(descriptor: int) -> None:
        synced.update([stat.S_ISREG(os.fstat(descriptor).st_mode)])
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", counting)
    results = await asyncio.gather(
        *(journal.append(entry) for entry in [*group, group[7], numbered(99), group[8]]),
        return_exceptions=True,
    )
    assert results[:41] == [True] * 40 + [False]
    assert isinstance(results[41], JournalFault)
    assert str(results[41]) == "full"
    assert results[42] is False, "a known entry needs no room"
    assert synced[True] <= 2
    assert journal.depth.waiting == 40
    await journal.close()


async def test_the_same_message_for_two_apps_makes_two_entries(journal: Journal) -> None:
    assert await journal.append(revocation("shop")) is True
    assert await journal.append(revocation("wiki")) is True
    assert await journal.append(revocation("shop", received_at=1.0)) is False
    assert journal.depth.waiting == 2


async def test_without_a_message_id_each_append_makes_an_entry(journal: Journal) -> None:
    assert await journal.append(revocation(once=None, received_at=1.0)) is True
    assert await journal.append(revocation(once=None, received_at=2.0)) is True
    assert journal.depth.waiting == 2


async def test_a_full_journal_reports_it_and_keeps_its_entries(tmp_path: Path) -> None:
    first = revocation()
    journal = Journal(tmp_path / "journal.db", max_bytes=len(encode_entry(first, key_of(first))))
    await journal.open()
    assert journal.fault is None
    await journal.append(first)
    assert journal.fault == "full"
    with pytest.raises(JournalFault, match="full"):
        await journal.append(numbered(2))
    assert await sids(journal) == ["s1"]
    (entry,) = await journal.read(after=0, limit=10)
    await journal.remove([entry])
    assert journal.fault is None
    assert await journal.append(first) is True
    await journal.close()


async def test_a_cancelled_append_fails_none_of_the_others(journal: Journal) -> None:
    tasks = [asyncio.create_task(journal.append(numbered(n))) for n in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[1::2] == [True] * 10
    assert await journal.append(numbered(20)) is True
    assert set(await sids(journal)) >= {f"s{n}" for n in range(1, 20, 2)}


async def test_a_close_awaits_the_commit_in_progress(tmp_path: Path) -> None:
    """Appends in progress finish before the close; later ones fail at once."""
    journal = Journal(tmp_path / "journal.db", max_bytes=1 << 24)
    await journal.open()
    tasks = [asyncio.create_task(journal.append(numbered(n))) for n in range(20)]
    await asyncio.sleep(0)
    await journal.close()
    assert await asyncio.gather(*tasks) == [True] * 20
    with pytest.raises(JournalFault, match="disk"):
        await journal.append(numbered(21))
    again = Journal(tmp_path / "journal.db", max_bytes=1 << 24)
    await again.open()
    assert again.depth.waiting == 20
    await again.close()


# -- set aside -----------------------------------------------------------------------------


async def test_an_entry_that_is_set_aside_is_not_pending_until_it_is_put_back(
    journal: Journal,
) -> None:
    for n in range(3):
        await journal.append(numbered(n))
    first, *_ = await journal.read(after=0, limit=10)
    await journal.set_aside([(first, "WRONGTYPE")])
    assert (await sids(journal), await sids(journal, refused=True)) == (["s1", "s2"], ["s0"])
    assert (journal.depth.waiting, journal.depth.set_aside) == (2, 1)
    assert (await journal.read(after=0, limit=10, refused=True))[0].refused == "WRONGTYPE"
    assert await journal.put_back() == 1
    assert await sids(journal) == ["s1", "s2", "s0"], "last, because it is appended again"
    assert (journal.depth.waiting, journal.depth.set_aside) == (3, 0)


async def test_an_entry_that_is_set_aside_is_pending_again_when_its_message_is_repeated(
    journal: Journal,
) -> None:
    """Otherwise the sender would get a 200 for an entry that is never written."""
    await journal.append(revocation(), refused="WRONGTYPE")
    assert await journal.append(revocation(), refused="WRONGTYPE") is False
    assert (journal.depth.waiting, journal.depth.set_aside) == (0, 1)
    assert await journal.append(revocation()) is True
    assert (journal.depth.waiting, journal.depth.set_aside) == (1, 0)
    assert await sids(journal) == ["s1"]


async def test_entries_set_aside_are_not_read_to_find_a_waiting_one(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each append waits while the journal's thread reads thousands of them."""
    for n in range(20):
        await journal.append(numbered(n), refused="WRONGTYPE")
    for n in range(20, 25):
        await journal.append(numbered(n))
    decoded: list[bytes] = []

    def counting(record: bytes) -> Revocation:
        decoded.append(record)
        return decode(record)

    monkeypatch.setattr("app.journal.pending_log.decode", counting)
    entries = await journal.read(after=0, limit=2)
    assert [entry.revocation.sid for entry in entries] == ["s20", "s21"]
    assert len(decoded) == 2
    entries = await journal.read(after=entries[-1].id, limit=10)
    assert [entry.revocation.sid for entry in entries] == ["s22", "s23", "s24"]
    assert len(decoded) == 5
    aside = await journal.read(after=0, limit=3, refused=True)
    assert [entry.revocation.sid for entry in aside] == ["s0", "s1", "s2"]
    assert len(decoded) == 8


async def test_more_entries_than_are_retried_at_once_are_put_back(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.journal.pending_log._RETRIED_AT_ONCE", 3)
    for n in range(10):
        await journal.append(numbered(n), refused="WRONGTYPE")
    assert await journal.put_back() == 10
    assert await sids(journal) == [f"s{n}" for n in range(10)]
    assert journal.depth.set_aside == 0


@pytest.mark.parametrize("damage", [b"\xaa", b"\0", b"\n"])
async def test_an_unreadable_entry_is_set_aside_and_blocks_no_other(
    damage: bytes, journal: Journal
) -> None:
    for n in range(3):
        await journal.append(numbered(n))
    first, second, _ = await journal.read(after=0, limit=10)
    (file,) = directory_of(journal.path).iterdir()
    with file.open("r+b") as segment:
        middle = (first.id + second.id) // 2 & 0xFFFF_FFFF
        segment.seek(middle)
        segment.write(damage * 50)
    assert await sids(journal) == ["s0", "s2"]
    assert (journal.depth.waiting, journal.depth.set_aside) == (2, 1)


@pytest.mark.parametrize(
    "body",
    [
        b'{"new":1}',
        b'{"key":["k"],"event":1}',
        b'{"key":"k","event":{}}',
        b'{"key":"k","event":{"received_at":1.5,"v":9}}',
    ],
)
async def test_an_entry_of_another_release_is_kept_aside(
    body: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"
    record = b"bcl1:%d:%08x:%s\n" % (len(body), zlib.crc32(body), body)
    directory_of(path).mkdir()
    segment = directory_of(path) / "000000000001.log"
    segment.write_bytes(record)
    for _ in range(2):
        journal = Journal(path, max_bytes=1 << 16)
        await journal.open()
        await journal.append(numbered(1))
        entries = await journal.read(after=0, limit=10)
        assert [entry.revocation.sid for entry in entries] == ["s1"]
        await journal.remove(entries)
        assert await journal.put_back() == 0
        assert (journal.depth.waiting, journal.depth.set_aside) == (0, 1)
        await journal.close()
        assert segment.read_bytes() == record
    assert "damaged" not in caplog.text


# -- the disk ------------------------------------------------------------------------------


async def test_a_failed_write_is_a_fault_and_later_writes_succeed(
    journal: Journal,
) -> None:
    """`probe` shows when the disk accepts entries again."""
    directory = directory_of(journal.path)
    shutil.rmtree(directory)
    directory.write_text("not a directory")
    with pytest.raises(JournalFault, match="disk"):
        await journal.append(revocation())
    await journal.probe()
    assert journal.fault == "disk"
    assert journal.depth.waiting == 0
    directory.unlink()
    directory.mkdir()
    await journal.probe()
    assert journal.fault is None
    assert await journal.append(revocation()) is True


async def test_only_the_owner_can_read_the_files(journal: Journal) -> None:
    """They show who logged out when."""
    await journal.append(revocation())
    directory = directory_of(journal.path)
    files = list(directory.iterdir())
    assert files
    for file in (directory, *files):
        assert file.stat().st_mode & 0o077 == 0


async def test_a_journal_that_has_refused_an_entry_is_full_until_one_is_removed(
    tmp_path: Path,
) -> None:
    """One entry did not fit, so it counts as full although a smaller one might fit."""
    first = revocation()
    journal = Journal(
        tmp_path / "journal.db", max_bytes=len(encode_entry(first, key_of(first))) + 50
    )
    await journal.open()
    await journal.append(first)
    assert journal.fault is None
    with pytest.raises(JournalFault, match="full"):
        await journal.append(numbered(2))
    assert journal.fault == "full"
    (entry,) = await journal.read(after=0, limit=10)
    await journal.remove([entry])
    assert journal.fault is None
    await journal.close()


async def test_a_requested_retry_is_done_once_the_disk_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk does not prevent the start."""
    path = tmp_path / "journal.db"
    journal = Journal(path, max_bytes=1 << 16)
    await journal.open()
    await journal.append(numbered(1), refused="WRONGTYPE")
    await journal.close()
    request_retry(path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    again = Journal(path, max_bytes=1 << 16)
    with monkeypatch.context() as disk:
        disk.setattr("app.journal.segment_log.Segment.write", full)
        await again.open()
        assert again.depth.set_aside == 1
    assert log_events(caplog, "journal", outcome="not_retried", error="ENOSPC")
    await again.refresh()
    assert (again.depth.waiting, again.depth.set_aside) == (1, 0)
    await again.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_what_root_creates_belongs_to_the_owner_of_the_directory(tmp_path: Path) -> None:
    """A command that runs as root must not lock the receiver out."""
    os.chown(tmp_path, 12345, 23456)
    files = JournalFiles(tmp_path / "data" / "journal.db")
    journal = Journal(files.claim(), max_bytes=1 << 16)
    await journal.open()
    await journal.append(numbered(1))
    await journal.close()
    files.release()
    created = list(tmp_path.rglob("*"))  # noqa: ASYNC240
    assert len(created) == 4, "two directories, the lock and a segment"
    for path in created:
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


async def test_a_root_that_may_not_give_files_away_has_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", forbidden)
    files = JournalFiles(tmp_path / "data" / "journal.db")
    journal = Journal(files.claim(), max_bytes=1 << 16)
    await journal.open()
    assert await journal.append(numbered(1)) is True
    await journal.close()
    files.release()


async def test_a_probe_that_was_interrupted_is_no_damage(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.append(numbered(1))
    (segment,) = directory_of(journal.path).iterdir()
    size = segment.stat().st_size

    def interrupted(_: int) -> None:
        assert segment.stat().st_size == size
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", interrupted)
        await journal.probe()
    assert journal.fault == "disk"
    await journal.probe()
    assert journal.fault is None
    assert list(directory_of(journal.path).iterdir()) == [segment]


# -- the log's size ------------------------------------------------------------------------


async def test_a_journal_without_pending_entries_needs_no_room(journal: Journal) -> None:
    for n in range(30):
        await journal.append(numbered(n))
    await journal.remove(await journal.read(after=0, limit=30))
    assert list(directory_of(journal.path).iterdir()) == []


async def test_an_entry_that_stays_does_not_keep_the_room_of_others(tmp_path: Path) -> None:
    """An entry that is set aside for weeks while thousands come and go, even after a restart."""
    path = tmp_path / "journal.db"
    journal = Journal(path, max_bytes=1 << 16)
    await journal.open()
    await journal.append(numbered(10_000), refused="WRONGTYPE")
    await journal.append(numbered(10_001))
    for turn in range(40):
        for n in range(20):
            await journal.append(numbered(turn * 20 + n))
        _, *others = await journal.read(after=0, limit=30)
        stays, *_ = await journal.read(after=0, limit=1)
        await journal.remove([entry for entry in [stays, *others] if entry.key != stays.key])
        size = sum(file.stat().st_size for file in directory_of(path).iterdir())
        assert size < 1 << 16
    await journal.close()
    again = Journal(path, max_bytes=1 << 16)
    await again.open()
    assert (await sids(again), await sids(again, refused=True)) == (["s10001"], ["s10000"])
    assert again.depth == journal.depth
    await again.close()


async def test_an_entry_repeated_after_a_full_disk_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The completion of the first one is recorded late, and must not apply to the second."""
    path = tmp_path / "journal.db"
    journal = Journal(path, max_bytes=1 << 16)
    await journal.open()
    await journal.append(numbered(1), refused="WRONGTYPE")
    await journal.append(numbered(2))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("app.journal.segment_log.Segment.write", full)
        await journal.remove(await journal.read(after=0, limit=10))
        assert journal.depth.waiting == 0
    assert await journal.append(numbered(2)) is True
    await journal.close()
    again = Journal(path, max_bytes=1 << 16)
    await again.open()
    assert await sids(again) == ["s2"]
    await again.close()
