"""What the journal took is there, once, whatever happens to the process."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from app.journal.append import JournalFault
from app.journal.journal import Journal
from app.journal.record import encode
from app.journal.sqlite import files_of
from tests.support.receiver import ROOT
from tests.support.revocations import numbered, revocation


async def sids(journal: Journal, *, refused: bool = False) -> list[str | None]:
    entries = await journal.read(after=0, limit=1000, refused=refused)
    return [entry.revocation.event.sid for entry in entries]


async def test_entries_are_read_back_in_the_order_in_which_they_came(journal: Journal) -> None:
    written = [numbered(n) for n in range(5)]
    for one in written:
        assert await journal.append(one) is True
    entries = await journal.read(after=0, limit=3)
    assert [entry.revocation for entry in entries] == written[:3]
    rest = await journal.read(after=entries[-1].id, limit=3)
    assert [entry.revocation for entry in rest] == written[3:]
    assert (journal.depth.waiting, journal.depth.set_aside) == (5, 0)
    assert journal.depth.oldest_at == pytest.approx(written[0].event.received_at, abs=0.001)
    await journal.remove([entry.id for entry in entries])
    assert await sids(journal) == ["s3", "s4"]
    counted = journal.depth
    await journal.refresh()
    assert journal.depth == counted, "what is counted on the way is what is there"


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


def test_an_entry_outlives_kill_9_right_after_its_answer(tmp_path: Path) -> None:
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
        found = await sids(journal)
        await journal.close()
        return found

    assert asyncio.run(read()) == [f"s{n}" for n in range(6)]


async def test_what_comes_together_shares_commits_and_each_has_its_own_result(
    tmp_path: Path,
) -> None:
    """A repetition, an entry for which there is no room, and the others."""
    group = [numbered(n) for n in range(40)]
    journal = Journal(tmp_path / "journal.db", max_bytes=sum(len(encode(one)) for one in group))
    await journal.open()
    commits: Counter[str] = Counter()
    await journal._file.run(lambda db: db.set_trace_callback(lambda sql: commits.update([sql])))
    results = await asyncio.gather(
        *(journal.append(one) for one in [*group, group[7], numbered(99), group[8]]),
        return_exceptions=True,
    )
    assert results[:41] == [True] * 40 + [False]
    assert isinstance(results[41], JournalFault)
    assert str(results[41]) == "full"
    assert results[42] is False, "what is in the journal needs no room"
    assert commits["COMMIT"] <= 2
    assert journal.depth.waiting == 40
    await journal.close()


async def test_the_same_message_for_two_apps_has_two_places(journal: Journal) -> None:
    assert await journal.append(revocation("shop")) is True
    assert await journal.append(revocation("wiki")) is True
    assert await journal.append(revocation("shop", received_at=1.0)) is False
    assert journal.depth.waiting == 2


async def test_without_a_message_id_each_has_its_place(journal: Journal) -> None:
    assert await journal.append(revocation(once=None, received_at=1.0)) is True
    assert await journal.append(revocation(once=None, received_at=2.0)) is True
    assert journal.depth.waiting == 2


async def test_a_full_journal_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    first = revocation()
    journal = Journal(tmp_path / "journal.db", max_bytes=len(encode(first)))
    await journal.open()
    assert journal.fault is None
    await journal.append(first)
    assert journal.fault == "full"
    with pytest.raises(JournalFault, match="full"):
        await journal.append(numbered(2))
    assert await sids(journal) == ["s1"]
    (entry,) = await journal.read(after=0, limit=10)
    await journal.remove([entry.id])
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


async def test_a_close_lets_the_commit_under_way_end(tmp_path: Path) -> None:
    """What was answered before the close is in the file; nobody waits for ever."""
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


async def test_what_was_set_aside_is_out_of_the_way_until_it_is_put_back(journal: Journal) -> None:
    for n in range(3):
        await journal.append(numbered(n))
    first, *_ = await journal.read(after=0, limit=10)
    await journal.set_aside([(first.id, "WRONGTYPE")])
    assert (await sids(journal), await sids(journal, refused=True)) == (["s1", "s2"], ["s0"])
    assert (journal.depth.waiting, journal.depth.set_aside) == (2, 1)
    assert (await journal.read(after=0, limit=10, refused=True))[0].refused == "WRONGTYPE"
    assert await journal.put_back() == 1
    assert await sids(journal) == ["s0", "s1", "s2"]
    assert (journal.depth.waiting, journal.depth.set_aside) == (3, 0)


async def test_what_was_set_aside_waits_again_when_its_message_comes_again(
    journal: Journal,
) -> None:
    """Else the sender would be told 200 for what nothing is going to write."""
    await journal.append(revocation(), refused="WRONGTYPE")
    assert await journal.append(revocation(), refused="WRONGTYPE") is False
    assert (journal.depth.waiting, journal.depth.set_aside) == (0, 1)
    assert await journal.append(revocation()) is True
    assert (journal.depth.waiting, journal.depth.set_aside) == (1, 0)
    assert await sids(journal) == ["s1"]


@pytest.mark.parametrize("value", [b"rubbish", b"", "text", "caf\udce9", 7, 1.5])
async def test_a_record_that_can_not_be_read_is_set_aside_and_blocks_nobody(
    value: object, journal: Journal
) -> None:
    for n in range(3):
        await journal.append(numbered(n))
    if value == "caf\udce9":  # a text that is no UTF-8
        change = "UPDATE entries SET record = CAST(x'636166e9' AS TEXT) WHERE id = 2"
    else:
        change = "UPDATE entries SET record = ? WHERE id = 2"
    await journal._file.run(
        lambda db: db.execute(change, (value,) if "?" in change else ()).rowcount
    )
    assert await sids(journal) == ["s0", "s2"]
    assert (journal.depth.waiting, journal.depth.set_aside) == (2, 1)


# -- the disk ------------------------------------------------------------------------------


async def test_a_write_that_fails_is_a_fault_and_what_comes_later_is_taken(
    journal: Journal, tmp_path: Path
) -> None:
    """Another process holds the file; `probe` tells when it is free again."""
    connection = journal._file._connection
    assert connection is not None
    connection.execute("PRAGMA busy_timeout = 50")
    with contextlib.closing(
        sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalFault, match="disk"):
            await journal.append(revocation())
        await journal.probe()
        assert journal.fault == "disk"
        assert journal.depth.waiting == 0
    await journal.probe()
    assert journal.fault is None
    assert await journal.append(revocation()) is True


async def test_only_the_owner_can_read_the_files(journal: Journal) -> None:
    """Who logged out when is for nobody else of this machine."""
    await journal.append(revocation())
    for file in files_of(journal.path):
        assert file.stat().st_mode & 0o077 == 0


async def test_a_journal_that_has_refused_an_entry_is_full_until_something_leaves(
    tmp_path: Path,
) -> None:
    """No entry fits to the byte: what counts is that one did not fit."""
    first = revocation()
    journal = Journal(tmp_path / "journal.db", max_bytes=len(encode(first)) + 50)
    await journal.open()
    await journal.append(first)
    assert journal.fault is None
    with pytest.raises(JournalFault, match="full"):
        await journal.append(numbered(2))
    assert journal.fault == "full"
    (entry,) = await journal.read(after=0, limit=10)
    await journal.remove([entry.id])
    assert journal.fault is None
    await journal.close()
