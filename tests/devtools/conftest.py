"""Where an embedded server is, and whether one is left."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers.redis_server import free_port


def process_list() -> dict[int, list[str]]:
    """Every process with its arguments, as every user of the machine can read them."""
    if Path("/proc/self/cmdline").exists():
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                arguments = (process / "cmdline").read_text(errors="replace")
                found[int(process.name)] = arguments.replace("\0", " ").split()
        return found
    listed = subprocess.run(
        ["/bin/ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in listed.stdout.splitlines()]
    return {int(row[0]): row[1:] for row in rows}


def servers_on(port: int) -> list[int]:
    """The servers that say in the process list that they serve this port."""
    return [
        pid
        for pid, arguments in process_list().items()
        if f"127.0.0.1:{port}" in arguments and "-server" in arguments[0]
    ]


@pytest.fixture
def port() -> Iterator[int]:
    """A free port; whatever server is left on it is killed, and the test has failed."""
    number = free_port()
    yield number
    left = servers_on(number)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"
