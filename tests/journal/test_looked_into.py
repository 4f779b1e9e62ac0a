"""Another process reads the journal of a running one."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.journal.inspection import read_entries, request_retry
from app.journal.journal import Journal
from tests.support.receiver import ROOT
from tests.support.revocations import numbered

APPENDS = """
import asyncio, os, signal, sys
from pathlib import Path
from app.journal.journal import Journal
from tests.support.revocations import numbered

async def main():
    first, last, end = (int(one) for one in sys.argv[2:])
    journal = Journal(Path(sys.argv[1]), max_bytes=1 << 24)
    await journal.open()
    print("open", flush=True)
    for n in range(first, last):
        await journal.append(numbered(n))
    if end:
        os.kill(os.getpid(), end)
    await journal.close()

asyncio.run(main())
"""


def appending(path: Path, first: int, last: int, end: int = 0) -> subprocess.Popen[str]:
    """A process that has opened the journal and appends to it."""
    process = subprocess.Popen(
        [sys.executable, "-c", APPENDS, str(path), str(first), str(last), str(end)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


@pytest.mark.slow
@pytest.mark.parametrize("unclean", [True, False], ids=["after a kill", "after a stop"])
def test_reading_from_outside_harms_neither_the_process_nor_an_entry(
    unclean: bool,
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.db"
    with appending(path, 0, 50, signal.SIGKILL if unclean else 0) as before:
        before.wait(60)
    with appending(path, 50, 450) as running:
        while running.poll() is None:
            assert 50 <= len(list(read_entries(path))) <= 450
            request_retry(path)
        assert running.returncode == 0
    assert len(list(read_entries(path))) == 450


async def test_a_retry_requested_by_another_process_is_done_by_the_journals_owner(
    journal: Journal,
) -> None:
    await journal.append(numbered(1), refused="WRONGTYPE")
    await journal.append(numbered(2))
    assert [entry.refused for entry in read_entries(journal.path)] == ["WRONGTYPE", None]
    assert request_retry(journal.path) == 1
    await journal.refresh()
    assert (journal.depth.waiting, journal.depth.set_aside) == (2, 0)
    assert [entry.refused for entry in read_entries(journal.path)] == [None, None]
    await journal.append(numbered(3), refused="WRONGTYPE")
    await journal.refresh()
    assert journal.depth.set_aside == 1, "one request is for one retry"
