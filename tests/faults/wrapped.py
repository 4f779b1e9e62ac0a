"""``python -m tests.faults.wrapped serve ...``: the real app, in a process that was tampered with.

``CLOCK_FILE`` holds eight bytes, a float: so many seconds `time.time` is ahead of the system's
clock, and writing the file steps it. With ``LOG_THROUGH_PIPE`` (alone) no log line meets
a limit of the process for its files.
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
    """Let the clock of a process that was started with this file be ``seconds`` ahead."""
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
    # Anew: Python has looked already at what its streams are.
    os.execv(sys.executable, [sys.executable, "-m", "app", *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    if clock_file := os.environ.get(CLOCK_FILE):
        _use_clock(clock_file)
    if os.environ.get(LOG_THROUGH_PIPE):
        _log_through_pipe()
    runpy.run_module("app", run_name="__main__", alter_sys=True)
