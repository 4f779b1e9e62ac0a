"""``python -m tests.faults.wrapped serve ...``: the real app in a modified process.

``CLOCK_FILE`` holds eight bytes, a float: the number of seconds that `time.time` is ahead of the
system's clock. Writing the file steps the clock. With ``LOG_THROUGH_PIPE``, only the log is exempt
from the process's limit on file sizes.
"""

import mmap
import os
import runpy
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

CLOCK_FILE = "CLOCK_FILE"
LOG_THROUGH_PIPE = "LOG_THROUGH_PIPE"

PROGRAM = (sys.executable, "-m", "tests.faults.wrapped")

_OFFSET = struct.Struct("d")


def step_clock(path: Path, seconds: float) -> None:
    """Set how many seconds the clock of a process started with this file is ahead."""
    path.touch()
    with path.open("r+b") as file:
        file.write(_OFFSET.pack(seconds))


def _use_clock(path: str) -> None:
    with Path(path).open("rb") as file:
        shared = mmap.mmap(file.fileno(), _OFFSET.size, access=mmap.ACCESS_READ)
    system = time.time
    time.time = lambda: system() + float(_OFFSET.unpack(shared)[0])


def _log_through_pipe() -> NoReturn:
    pipe = subprocess.Popen(["cat"], stdin=subprocess.PIPE)  # noqa: S607  of every PATH
    assert pipe.stdin is not None
    for stream in (1, 2):
        os.dup2(pipe.stdin.fileno(), stream)
    # Recreated: Python has already inspected its streams.
    os.execv(sys.executable, [sys.executable, "-m", "app", *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    if clock_file := os.environ.get(CLOCK_FILE):
        _use_clock(clock_file)
    if os.environ.get(LOG_THROUGH_PIPE):
        _log_through_pipe()
    runpy.run_module("app", run_name="__main__", alter_sys=True)
