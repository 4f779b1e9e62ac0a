"""A full disk: entries stay, can be removed, and free their space.

The disk is a small file system in memory, in the test's own namespace.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.receiver import ROOT

PRELUDE = """
import asyncio, os, sys
from pathlib import Path
from app.journal.ack_log import AckLog
from app.journal.journal import Journal, JournalFault, directory_of
from tests.support.revocations import numbered

disk = Path(sys.argv[1])
path = disk / "journal.db"

def fill():
    with (disk / "others").open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass

async def append_until_full(journal, first):
    for n in range(first, first + 100_000):
        try:
            await journal.append(numbered(n))
        except JournalFault as fault:
            return n, str(fault)

async def all_of(journal):
    found, after = [], 0
    while entries := await journal.read(after=after, limit=500):
        found += entries
        after = entries[-1].id
    return found
"""

DELETES = """
async def main():
    journal = Journal(path, max_bytes=1 << 30)
    await journal.open()
    for n in range(3000):
        await journal.append(numbered(n))
    fill()
    count, fault = await append_until_full(journal, 3000)
    assert fault == "disk", fault
    assert journal.fault == "disk"
    entries = await all_of(journal)
    assert len(entries) == count == journal.depth.waiting, (len(entries), count, journal.depth)
    for start in range(0, count, 200):
        await journal.remove(entries[start:start + 200])
    assert journal.depth.waiting == 0
    (disk / "others").unlink()
    await journal.probe()
    assert journal.fault is None
    assert await journal.append(numbered(10**6)) is True
    await journal.close()
"""

OPENS = """
async def main():
    journal = Journal(path, max_bytes=1 << 30)
    await journal.open()
    for n in range(500):
        await journal.append(numbered(n))
    kept = {file: file.read_bytes() for file in directory_of(path).iterdir()}
    await journal.close()
    for file, data in kept.items():  # as a kill leaves it
        file.write_bytes(data)
    fill()
    journal = Journal(path, max_bytes=1 << 30)
    await journal.open()
    entries = await all_of(journal)
    assert len(entries) == 500, len(entries)
    for start in range(0, 500, 200):
        await journal.remove(entries[start:start + 200])
    assert journal.depth.waiting == 0
    await journal.close()
"""

COPY = """
def opened():
    copy = AckLog(disk / "copy", window=3600, max_bytes=1 << 30)
    copy.open()
    return copy

async def main():
    copy = opened()
    for n in range(500):
        copy.add_many([numbered(n)])
    fill()
    for n in range(500, 20_000):
        copy.add_many([numbered(n)])
    (disk / "others").unlink()
    for n in range(20_000, 20_500):
        copy.add_many([numbered(n)])
    copy.close()
    again, after, found = opened(), 0, []
    while entries := again.read(after=after, limit=1000):
        after = entries[-1][0]
        found += [one.event.sid for _, one in entries]
    assert found[-500:] == [f"s{n}" for n in range(20_000, 20_500)], found[-3:]
    again.close()
"""


def run_on_small_disk(script: str, disk: Path, size: str) -> None:
    disk.mkdir()
    mount = f'mount -t tmpfs -o size={size} tmpfs "$1" && shift && exec "$@"'
    ran = subprocess.run(
        [shutil.which("unshare") or "unshare", "-rm", "sh", "-c", mount, "sh", str(disk),
         sys.executable, "-c", PRELUDE + script + "\nasyncio.run(main())", str(disk)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system of its own")


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", [DELETES, OPENS, COPY],
    ids=["what was applied can be deleted", "it opens after a kill", "the copy goes on"],
)  # fmt: skip
def test_on_a_full_disk(script: str, tmp_path: Path) -> None:
    run_on_small_disk(script, tmp_path / "disk", "16m")
