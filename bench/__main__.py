"""``python -m bench [part ...]``: measures, then writes tables and plots (`bench.report`).

Each part is a module with ``run(*, quick) -> Result``. ``--quick`` tests the bench itself: its
figures mean nothing and are not written.
"""

import argparse
import importlib
import os
import time

from bench import report
from bench.machine import busy_seconds, cores, cpu_seconds
from tests.support.memory import work_in_memory

PARTS = (
    "throughput", "algorithms", "latency", "processes", "sustained_load", "memory", "startup",
    "scaling", "guard", "near_cache", "delivery", "catch_up", "reader_cost",
)  # fmt: skip

COUNTS_BYTES = ("memory",)
"""Parts whose figures do not depend on other load on the machine."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; writes no report")
    parser.add_argument("--report", action="store_true", help="write the stored results")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if len(set(cores())) < 2:
        parser.error("two cores are needed: one for a server, one for its load")
    work_in_memory()
    for part in () if options.report else options.parts or PARTS:
        _run(part, quick=options.quick)
    if not options.quick:
        report.write(PARTS)


def _run(part: str, *, quick: bool) -> None:
    print(f"{part} ...", flush=True)
    start, busy, own = time.monotonic(), busy_seconds(), cpu_seconds(os.getpid())
    result = importlib.import_module(f"bench.{part}").run(quick=quick)
    seconds = time.monotonic() - start
    foreign = busy_seconds() - busy - (cpu_seconds(os.getpid()) - own)
    share = foreign / seconds / (os.cpu_count() or 1)
    print(f"\n{result.table}\n")
    for claim in result.claims:
        print(f"  {claim.what}: {claim.measured} (goal {claim.goal})")
    print(f"  ({seconds:.0f} s; other processes used {share:.0%} of the cores)\n", flush=True)
    if not quick:
        report.save(part, result, None if part in COUNTS_BYTES else share)


if __name__ == "__main__":
    main()
