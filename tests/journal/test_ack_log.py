"""The copy of acknowledged logouts: survives a restart, is bounded, and never blocks."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.journal.ack_log import IN_MEMORY_BYTES, AckLog
from tests.support.receiver import ROOT, log_events
from tests.support.revocations import numbered


class Clocks:
    """The wall clock, which can be set, and the monotonic clock."""

    def __init__(self) -> None:
        self.wall = 1_795_283_041.0
        self.steady = 1000.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def at(
    directory: Path | None, clocks: Clocks, *, window: float = 3600, max_bytes: int = 1 << 24
) -> AckLog:
    copy = AckLog(
        directory,
        window=window,
        max_bytes=max_bytes,
        clock=lambda: clocks.wall,
        monotonic=lambda: clocks.steady,
    )
    copy.open()
    return copy


@pytest.fixture
def copy(tmp_path: Path, clocks: Clocks) -> Iterator[AckLog]:
    ack_log = at(tmp_path / "copy", clocks)
    yield ack_log
    ack_log.close()


def sids(copy: AckLog, after: int = 0) -> list[str | None]:
    """Read to the end, as the recovery does."""
    sids: list[str | None] = []
    while entries := copy.read(after=after, limit=100):
        after = entries[-1][0]
        sids += [revocation.event.sid for _, revocation in entries]
    return sids


def note(copy: AckLog, *numbers: int) -> None:
    for n in numbers:
        copy.add_many([numbered(n)])


@pytest.mark.parametrize("kept", [True, False], ids=["on disk", "in memory"])
def test_records_added_together_keep_their_order(
    tmp_path: Path, clocks: Clocks, *, kept: bool
) -> None:
    copy = at(tmp_path if kept else None, clocks)
    note(copy, 1)
    copy.add_many([numbered(2), numbered(3)])
    note(copy, 4)
    assert sids(copy) == ["s1", "s2", "s3", "s4"]
    copy.close()


def named(numbers: range) -> list[str]:
    return [f"s{n}" for n in numbers]


@pytest.mark.parametrize("kept", [True, False], ids=["on disk", "in memory"])
def test_accepted_records_are_read_in_order(tmp_path: Path, clocks: Clocks, *, kept: bool) -> None:
    copy = at(tmp_path / "copy" if kept else None, clocks)
    note(copy, 1, 2)
    clocks.pass_by(61)
    note(copy, 3)
    assert sids(copy) == ["s1", "s2", "s3"]
    first = copy.read(after=0, limit=2)
    assert sids(copy, after=first[-1][0]) == ["s3"]
    note(copy, *range(4, 2000))
    assert sids(copy) == named(range(1, 2000))
    copy.close()


def test_a_record_survives_a_process_killed_at_once(tmp_path: Path) -> None:
    """The provider has its answer, so the copy must already have the record."""
    program = (
        "import os, sys, signal; from pathlib import Path\n"
        "from app.journal.ack_log import AckLog\n"
        "from tests.support.revocations import numbered\n"
        "copy = AckLog(Path(sys.argv[1]), window=3600, max_bytes=1 << 24); copy.open()\n"
        "for n in range(50): copy.add_many([numbered(n)])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "copy")], cwd=ROOT, check=False, timeout=60
    )
    assert ended.returncode == -signal.SIGKILL
    copy = AckLog(tmp_path / "copy", window=3600, max_bytes=1 << 24)
    copy.open()
    assert sids(copy) == named(range(50))
    assert sids(copy, after=copy.since(360, min_bytes=0)) == named(range(50))
    copy.close()


def test_recent_records_are_those_of_the_monotonic_clock(copy: AckLog, clocks: Clocks) -> None:
    note(copy, 1, 2)
    clocks.pass_by(400)
    note(copy, 3)
    clocks.pass_by(100)
    for hours in (1, -2):
        clocks.wall += hours * 3600
        assert sids(copy, after=copy.since(360, min_bytes=0)) == ["s3"]
    note(copy, 4)
    assert sids(copy, after=copy.since(360, min_bytes=0)) == ["s3", "s4"]
    assert sids(copy, after=copy.since(360, min_bytes=10**6)) == ["s1", "s2", "s3", "s4"]
    clocks.pass_by(9999)
    assert sids(copy, after=copy.since(360, min_bytes=0)) == []
    assert sids(copy, after=copy.since(360, min_bytes=1)) == ["s4"]


def test_after_a_restart_the_files_dates_determine_recent_records(
    tmp_path: Path, clocks: Clocks
) -> None:
    copy = at(tmp_path / "copy", clocks)
    note(copy, 1)
    clocks.pass_by(61)
    note(copy, 2)
    copy.close()
    for age, file in zip((1000, 100), sorted((tmp_path / "copy").glob("*.log")), strict=True):
        os.utime(file, (clocks.wall - age, clocks.wall - age))
    clocks.steady = 5.0
    copy = at(tmp_path / "copy", clocks)
    assert sids(copy, after=copy.since(360, min_bytes=0)) == ["s2"]
    note(copy, 3)
    assert sids(copy) == ["s1", "s2", "s3"]
    copy.close()


def test_records_older_than_the_window_are_deleted(tmp_path: Path, clocks: Clocks) -> None:
    copy = at(tmp_path / "copy", clocks, window=600)
    note(copy, 1, 2)
    clocks.pass_by(601)
    note(copy, 3)
    assert sids(copy) == ["s3"]
    assert len(list((tmp_path / "copy").glob("*.log"))) == 1
    copy.close()


@pytest.mark.parametrize("kept", [True, False], ids=["on disk", "in memory"])
def test_the_copy_is_bounded_in_bytes_and_keeps_the_newest(
    tmp_path: Path, clocks: Clocks, *, kept: bool
) -> None:
    copy = at(tmp_path / "copy" if kept else None, clocks, max_bytes=1 << 20)
    note(copy, *range(6000))
    left = sids(copy)
    assert left[-1] == "s5999"
    assert left == named(range(6000 - len(left), 6000))
    assert 1000 < len(left) < 4000
    copy.close()


def test_a_copy_in_memory_has_a_fixed_bound(clocks: Clocks) -> None:
    copy = at(None, clocks, window=86400, max_bytes=1 << 40)
    assert copy._max_bytes == IN_MEMORY_BYTES
    note(copy, 1)
    clocks.pass_by(601)
    note(copy, 2)
    assert sids(copy) == ["s2"]
    copy.close()


def test_a_day_with_few_logouts_needs_one_open_file(copy: AckLog, clocks: Clocks) -> None:
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    for n in range(200):
        clocks.pass_by(15)
        note(copy, n)
    assert sids(copy) == named(range(200))
    if before:
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_a_directory_that_takes_no_writes_is_logged_once_and_ends_nothing(
    copy: AckLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(tmp_path / "copy")
    (tmp_path / "copy").write_text("not a directory")
    note(copy, 1, 2)
    assert len(log_events(caplog, "accepted", outcome="failed")) == 1


# -- damage --------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 1000, 150_000, -300], ids=str)
def test_intact_records_of_a_damaged_file_are_read(
    start: int, tmp_path: Path, clocks: Clocks
) -> None:
    copy = at(tmp_path / "copy", clocks)
    note(copy, *range(1000))
    copy.close()
    (file,) = (tmp_path / "copy").glob("*.log")
    data = bytearray(file.read_bytes())
    start %= len(data)
    data[start : start + 300] = b"\xaa" * 300
    file.write_bytes(data[:-7])
    copy = at(tmp_path / "copy", clocks)
    assert 995 <= len(sids(copy)) < 1000
    note(copy, 5000)
    assert sids(copy)[-1] == "s5000"
    copy.close()


def test_the_copy_of_an_ended_process_is_adopted_with_its_files(
    copy: AckLog, tmp_path: Path, clocks: Clocks
) -> None:
    other = at(tmp_path / "other", clocks)
    note(other, *range(500))
    other.close()
    note(copy, 1000)
    copy.adopt(tmp_path / "other")
    note(copy, 1001)
    assert sids(copy) == ["s1000", *named(range(500)), "s1001"]
    assert not (tmp_path / "other").exists()


def test_recent_records_are_found_before_the_older_ones_of_an_adopted_copy(
    copy: AckLog, tmp_path: Path, clocks: Clocks
) -> None:
    other = at(tmp_path / "other", clocks)
    note(other, 1)
    other.close()
    (file,) = (tmp_path / "other").glob("*.log")
    os.utime(file, (clocks.wall - 5000, clocks.wall - 5000))
    note(copy, 2)
    writing = copy._segments.segments[-1]
    copy.adopt(tmp_path / "other")
    assert writing.file is None, "no file stays open"
    assert sids(copy, after=copy.since(360, min_bytes=0)) == ["s2", "s1"]
    note(copy, 3)
    assert sids(copy, after=copy.since(360, min_bytes=0)) == ["s2", "s1", "s3"]
