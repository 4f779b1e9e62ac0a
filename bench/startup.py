"""The time from the start of the process to its first 200 on `/readyz`, and its memory then."""

import compileall
import contextlib
import time

from bench import load
from bench.figures import median, spread, table
from bench.machine import resident_bytes
from bench.report import ROOT, Claim, Result
from bench.servers import receiver
from bench.throughput import new_rig

STARTS = 10
TOKENS = 5000

SECONDS = 1.0
MEGABYTES = 80

_REQUEST = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def run(*, quick: bool) -> Result:
    starts, tokens = (2, 400) if quick else (STARTS, TOKENS)
    seconds: list[float] = []
    for tree in ("app", "clients/python"):  # as an installation does
        compileall.compile_dir(ROOT / tree, quiet=1)
    with new_rig() as (rig, mint), rig.redis("startup") as redis:
        for _ in range(starts):
            with receiver.starting(rig, redis) as server:
                seconds.append(_until_ready(server.admin_port, server.began))
        with receiver.running(rig, "startup", redis=redis) as running:
            idle = resident_bytes(running.pid) / 1e6
            running.send(mint.sign(tokens))
            loaded = resident_bytes(running.pid) / 1e6
    rows = [
        ("from start to readiness, s", spread(seconds)),
        ("RSS when ready, MB", f"{idle:.0f}"),
        (f"RSS after {tokens:,} logouts, MB", f"{loaded:.0f}"),
    ]
    return Result(
        table(("", "measured"), rows),
        [
            Claim(
                "seconds from start to readiness",
                f"≤ {SECONDS:.0f}",
                spread(seconds),
                held=median(seconds) <= SECONDS,
            ),
            Claim(
                "RSS of a receiver, MB",
                f"≤ {MEGABYTES}",
                f"{loaded:.0f}",
                held=loaded <= MEGABYTES,
            ),
        ],
    )


def _until_ready(port: int, began: float) -> float:
    while True:
        with contextlib.suppress(OSError, load.LoadFault):
            if load.send(port, [_REQUEST], connections=1).statuses[200]:
                return time.perf_counter() - began
        time.sleep(0.005)
