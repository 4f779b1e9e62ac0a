"""What the machine gives: cores, and what a process has taken of processor and memory.

Linux alone has these files; elsewhere the bench does not run.
"""

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@functools.cache
def cores() -> tuple[int, int]:
    """The core of the servers, and that of the load and of Redis; the same one twice where there
    is no other, and then nothing that is measured means anything."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[:2][-1]


@contextlib.contextmanager
def on_cores(*numbers: int) -> Iterator[None]:
    """This thread, and whatever it starts meanwhile, on these cores only."""
    cores()  # what there is, seen before this thread gives some of it away
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, numbers)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def busy_seconds() -> float:
    """Processor time that all cores together have spent on anything since the machine started,
    and what a hypervisor has kept of them for others."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    # proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
    return sum(int(fields[n]) for n in (0, 1, 2, 5, 6, 7)) / _TICKS


def family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            for child in (thread / "children").read_text().split():
                found += family(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time of the process and its descendants, user and system, in seconds."""
    return sum(_own_cpu_seconds(one) for one in family(pid))


def _own_cpu_seconds(pid: int) -> float:
    # proc_pid_stat(5): after the name, which may hold spaces, utime is the 12th field, stime the
    # 13th, and those of children that have ended the 14th and 15th. In ticks: too coarse for
    # less than a second of work, fine for several.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / _TICKS


def resident_bytes(pid: int) -> int:
    """Resident memory of the process and its descendants; what processes share counts once,
    as far as the kernel tells (the proportional share, for more than one process)."""
    members = family(pid)
    wanted, source = ("Pss:", "smaps_rollup") if len(members) > 1 else ("VmRSS:", "status")
    total = 0
    for one in members:
        lines = Path(f"/proc/{one}/{source}").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith(wanted))
    return total * 1024
