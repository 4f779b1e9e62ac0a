"""The log of a process: lines, and never a reason to fail."""

import re
import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TOLD_TWICE = """
import logging
from app.telemetry.log import log_to_stderr, tell
log_to_stderr()
log = logging.getLogger("app.some")
log.warning("outcome=%s percent=%%", "accepted")
tell(log, logging.WARNING, "outcome=accepted percent=%")
print("went on")
"""


def run(stderr: Path) -> str:
    with stderr.open("w") as file:
        return subprocess.run(
            [sys.executable, "-c", TOLD_TWICE],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=file, text=True, check=False, timeout=60,
        ).stdout  # fmt: skip


def test_a_tokens_line_looks_like_every_other(tmp_path: Path) -> None:
    assert run(tmp_path / "log") == "went on\n"
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} "
    lines = [re.sub(stamp, "", line) for line in (tmp_path / "log").read_text().splitlines()]
    assert lines == ["WARNING app.some outcome=accepted percent=%"] * 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_log_that_takes_nothing_stops_nobody() -> None:
    assert run(Path("/dev/full")) == "went on\n"


HELD = """
from app.telemetry.log import LINES
LINES.hold()
for n in range(100):
    LINES.write(f"{n:03d}" + "é" * 60)
LINES.release()
LINES.write("after")
"""


def test_lines_that_are_told_together_are_few_writes_and_each_stays_whole() -> None:
    """A socket that keeps apart what was written apart, in place of a pipe."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        subprocess.run(
            [sys.executable, "-c", HELD], cwd=ROOT, stderr=theirs, check=True, timeout=60
        )
        theirs.close()
        writes = list(iter(lambda: ours.recv(1 << 16), b""))
    *together, after = writes
    assert after == b"after\n"
    assert b"".join(together).decode().split("\n")[:-1] == [
        f"{n:03d}" + "é" * 60 for n in range(100)
    ]
    assert len(together) == 4  # 12,400 bytes
    assert all(len(one) <= select.PIPE_BUF and one.endswith(b"\n") for one in together)
