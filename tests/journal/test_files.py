"""Each process has its own journal, and no journal is left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.journal.ack_log import AckLog
from app.journal.files import JournalFiles, copy_of, try_lock
from app.journal.journal import Journal, JournalFault, directory_of
from tests.support.receiver import ROOT, log_events
from tests.support.revocations import numbered

ROOM = 1 << 24

# Appends entries, prints the journal's name, and waits to be killed.
HOLDER = """
import asyncio, sys
from pathlib import Path
from app.journal.journal import Journal, JournalFault, directory_of
from app.journal.files import JournalFiles
from tests.support.revocations import numbered

async def main():
    files = JournalFiles(Path(sys.argv[1]))
    journal = Journal(files.claim(), max_bytes=1 << 24)
    await journal.open()
    for n in range(int(sys.argv[2]), int(sys.argv[3])):
        await journal.append(numbered(n))
    print(files.own.name, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@contextmanager
def holder(path: Path, first: int, last: int) -> Iterator[str]:
    """Another process with the same path; returns the name of its file."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), str(first), str(last)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGKILL)


class OwnedJournal:
    """One process's journal, its lock and its copy."""

    def __init__(self, path: Path, *, max_bytes: int = ROOM) -> None:
        self.files = JournalFiles(path)
        self.journal = Journal(self.files.claim(), max_bytes=max_bytes)
        self.accepted = AckLog(copy_of(self.files.own), window=3600, max_bytes=1 << 24)

    async def open(self) -> "OwnedJournal":
        await self.journal.open()
        self.accepted.open()
        return self

    async def adopt(self) -> bool:
        return await self.files.adopt_orphans(self.journal, self.accepted)

    async def sids(self, *, refused: bool = False) -> list[str | None]:
        entries = await self.journal.read(after=0, limit=1000, refused=refused)
        return sorted(entry.revocation.event.sid or "" for entry in entries)

    async def close(self) -> None:
        """Shut down; the entries stay on disk."""
        await self.journal.close()
        self.accepted.close()
        self.files.release()


@pytest.mark.slow
def test_two_processes_with_one_path_have_two_files_which_are_adopted_once(
    tmp_path: Path,
) -> None:
    path = tmp_path / "data" / "journal.db"
    with holder(path, 0, 3) as first, holder(path, 3, 5) as second:
        assert (first, second) == ("journal.db", "journal-1.db")

        async def third_adopts() -> None:
            third = await OwnedJournal(path).open()
            assert third.files.own.name == "journal-2.db"
            assert await third.adopt() is False, "both live"
            assert third.journal.depth.waiting == 0
            await third.close()

        asyncio.run(third_adopts())

    async def both_adopt() -> None:
        third, fourth = [await OwnedJournal(path).open() for _ in range(2)]
        assert third.files.own == path, "the first free file, with its entries"
        assert fourth.files.own.name == "journal-1.db"
        fifth = await OwnedJournal(path).open()
        await asyncio.gather(*(journal.close() for journal in (third, fourth)))
        sixth = OwnedJournal(tmp_path / "data" / "journal.db")
        await sixth.open()
        adopted = await asyncio.gather(sixth.adopt(), fifth.adopt(), sixth.adopt())
        assert any(adopted)
        adopted = await sixth.sids() + await fifth.sids()
        assert sorted(adopted) == ["s0", "s1", "s2", "s3", "s4"]
        assert await sixth.adopt() is False
        left = set(path.parent.glob("*.pending"))
        assert left == {directory_of(journal.files.own) for journal in (fifth, sixth)}
        await asyncio.gather(fifth.close(), sixth.close())

    asyncio.run(both_adopt())


async def orphan(path: Path, entries: int) -> None:
    """Leave the journal of an ended process: pending entries, one set aside, and a copy."""
    first = await OwnedJournal(path).open()
    second = await OwnedJournal(path).open()
    for n in range(entries):
        await second.journal.append(numbered(n))
    await second.journal.append(numbered(100), refused="WRONGTYPE")
    second.accepted.add_many([numbered(200)])
    await second.close()
    await first.close()


async def test_an_orphans_entries_and_copy_are_adopted(tmp_path: Path) -> None:
    """Entries that are set aside stay so, and known messages are not added again."""
    path = tmp_path / "journal.db"
    await orphan(path, 3)
    mine = await OwnedJournal(path).open()
    await mine.journal.append(numbered(1))
    assert await mine.adopt() is True
    assert await mine.sids() == ["s0", "s1", "s2"]
    assert await mine.sids(refused=True) == ["s100"]
    copied = mine.accepted.read(after=0, limit=10)
    assert [record.event.sid for _, record in copied] == ["s200"]
    left = {file.name for file in tmp_path.glob("journal-1.db*")}  # noqa: ASYNC240
    assert left == {"journal-1.db.lock"}
    await mine.close()


def open_files() -> int:
    """The number of this process's open files; 0 where the system does not report it."""
    return sum(1 for _ in Path("/proc/self/fd").glob("*"))


async def test_entries_without_room_stay_in_the_orphan_until_there_is_room(
    tmp_path: Path,
) -> None:
    """No attempt leaks a thread or a file."""
    path = tmp_path / "journal.db"
    await orphan(path, 10)
    mine = await OwnedJournal(path, max_bytes=1200).open()
    assert await mine.adopt() is False
    before = open_files()
    for _ in range(5):
        assert await mine.adopt() is False
    assert open_files() == before
    assert mine.journal.fault is not None or mine.journal.depth.waiting > 0
    replayed: list[str | None] = []
    for _ in range(20):
        entries = await mine.journal.read(after=0, limit=1000)
        await mine.journal.remove(entries)
        replayed += [entry.revocation.sid for entry in entries]
        if await mine.adopt():
            break
    assert replayed + await mine.sids() == [f"s{n}" for n in range(10)], "each once"
    assert await mine.sids(refused=True) == ["s100"]
    await mine.close()


async def test_an_orphan_that_cannot_be_opened_does_not_block_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"
    (tmp_path / "journal-3.db").mkdir()
    await orphan(path, 2)
    directory_of(tmp_path / "journal-1.db").rename(directory_of(tmp_path / "journal-7.db"))
    mine = await OwnedJournal(path).open()
    assert await mine.adopt() is True
    assert await mine.sids() == ["s0", "s1"]
    assert log_events(caplog, "journal", outcome="not_adopted")
    await mine.close()


async def test_a_damaged_orphans_readable_entries_are_adopted(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await orphan(path, 5)
    (file,) = directory_of(tmp_path / "journal-1.db").iterdir()
    file.write_bytes(bytes(100) + file.read_bytes()[100:])
    mine = await OwnedJournal(path).open()
    assert await mine.adopt() is True
    assert await mine.sids() == ["s1", "s2", "s3", "s4"]
    assert await mine.sids(refused=True) == ["s100"]
    await mine.close()


async def test_a_process_that_starts_during_an_adoption_takes_another_file(tmp_path: Path) -> None:
    """While a journal is being adopted, it cannot be claimed."""
    path = tmp_path / "journal.db"
    await orphan(path, 2)
    mine = await OwnedJournal(path).open()
    lock = try_lock(tmp_path / "journal-1.db")
    assert lock is not None
    starting = await OwnedJournal(path).open()
    assert starting.files.own.name == "journal-2.db"
    lock.close()
    assert await mine.adopt() is True
    await asyncio.gather(mine.close(), starting.close())


def test_a_directory_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file"):
        JournalFiles(tmp_path / "file" / "journal.db").claim()


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with holder(path, 0, 1):
        assert try_lock(path) is None
    deadline = time.monotonic() + 60
    while (lock := try_lock(path)) is None:
        assert time.monotonic() < deadline
    lock.close()


async def test_a_journal_without_room_loads_no_orphan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An orphan with thousands of entries takes seconds, each time."""
    path = tmp_path / "journal.db"
    await orphan(path, 3)
    own = await OwnedJournal(path, max_bytes=1).open()
    with pytest.raises(JournalFault):
        await own.journal.append(numbered(500))
    opened: list[Path] = []
    monkeypatch.setattr(JournalFiles, "_adopt", lambda _, path, *__: opened.append(path))
    assert await own.adopt() is False
    assert opened == []
    await own.close()


async def test_what_stays_in_an_orphan_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"
    await orphan(path, 1)
    (segment,) = directory_of(tmp_path / "journal-1.db").iterdir()
    with segment.open("ab") as file:
        file.write(b"bcl1:9:%08x:%s\n" % (zlib.crc32(b'{"new":1}'), b'{"new":1}'))
    own = await OwnedJournal(path).open()
    for _ in range(2):
        assert await own.adopt() is False
    assert own.journal.depth.waiting == 1
    assert len(log_events(caplog, "journal", outcome="not_adopted", left=1)) == 1
    await own.close()
