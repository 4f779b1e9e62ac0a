"""Cores, and the processor time and memory of processes.

Reads files that only Linux has; the bench does not run elsewhere.
"""

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@functools.cache
def cores() -> tuple[int, int]:
    """The core of the servers, and that of the load and of Redis. On a machine with one core they
    are the same, and no measurement means anything."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[:2][-1]


@contextlib.contextmanager
def on_cores(*numbers: int) -> Iterator[None]:
    """Runs this thread, and the processes that it starts, on these cores only."""
    cores()  # cached before this thread gives up some of them
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, numbers)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def busy_seconds() -> float:
    """The processor time that all cores have spent since the machine started, including the time
    that a hypervisor took for others."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    # proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
    return sum(int(fields[n]) for n in (0, 1, 2, 5, 6, 7)) / _TICKS


def family(pid: int) -> list[int]:
    """The process and its descendants."""
    pids = [pid]
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            for child in (thread / "children").read_text().split():
                pids += family(int(child))
    return pids


def cpu_seconds(pid: int) -> float:
    """The user and system time of the process and its descendants, in seconds."""
    return sum(_own_cpu_seconds(member) for member in family(pid))


def _own_cpu_seconds(pid: int) -> float:
    # proc_pid_stat(5): after the name, which may contain spaces, utime is the 12th field, stime the
    # 13th, and those of ended children the 14th and 15th. Ticks are too coarse for less than a
    # second of work.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / _TICKS


def resident_bytes(pid: int) -> int:
    """The resident memory of the process and its descendants. Shared memory counts once, as far as
    the kernel reports it (the proportional share, for more than one process)."""
    members = family(pid)
    field, source = ("Pss:", "smaps_rollup") if len(members) > 1 else ("VmRSS:", "status")
    total = 0
    for member in members:
        lines = Path(f"/proc/{member}/{source}").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith(field))
    return total * 1024
