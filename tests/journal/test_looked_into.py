"""The journal of a running process, looked into by another one."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.journal.table import put_back_in, read_depth, read_entries
from tests.support.receiver import ROOT

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
def test_looks_from_outside_harm_neither_the_process_nor_an_entry(
    unclean: bool,
    tmp_path: Path,
) -> None:
    """A look that believed itself alone would cut the index off under the other's feet."""
    path = tmp_path / "journal.db"
    with appending(path, 0, 50, signal.SIGKILL if unclean else 0) as before:
        before.wait(60)
    with appending(path, 50, 450) as running:
        while running.poll() is None:
            read_depth(path)
            put_back_in(path)
        assert running.returncode == 0
    assert read_depth(path).waiting == 450
    assert len(list(read_entries(path))) == 450
