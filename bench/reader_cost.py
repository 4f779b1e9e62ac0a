"""The effect of an app's readers, the tails of guards, on the latency of a logout.

    as the guard   up to 50 block in Redis; with more, each reads twice a second
    all wait       all of them block in ``XREAD BLOCK``

One process (`bench.tail_process`) runs the tails at the lowest priority on the servers' core, so
that it affects the receiver only through Redis, as far as possible on one machine. If that core is
too busy, the tails read later than real ones would.
"""

import resource
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.figures import median, percentile, table
from bench.machine import cores, cpu_seconds, on_cores
from bench.report import Result
from bench.servers import Server, check, receiver
from bench.tail_process import running_tails
from bench.throughput import new_rig
from bench.tokens import ES256, Token
from tests.support.servers.redis_server import RedisServer

RATE = 50
"""Logouts a second. With 200, reading alone takes two thousand tails more than one core."""
SECONDS = 5
ROUNDS = 2

CASES = ((0, False), (50, False), (500, False), (500, True), (2000, False), (2000, True))
"""The number of tails, and whether all of them block."""

# Files of a process in addition to its connections.
_OTHER_FILES = 200

# Few connections are left once Redis has closed those of the previous tails.
_CONNECTIONS, _PATIENCE = 20, 20.0


@dataclass(slots=True)
class Cost:
    """The rounds of one case. Latencies in seconds, the rest per second."""

    latencies: list[float] = field(default_factory=list)
    redis_cpu: list[float] = field(default_factory=list)
    own_cpu: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)


def run(*, quick: bool) -> Result:
    rounds, count = (1, 100) if quick else (ROUNDS, RATE * SECONDS)
    cases = [case for case in CASES if case[0] <= (50 if quick else _max_connections())]
    costs = {case: Cost() for case in cases}
    with new_rig(ES256) as (rig, mint), receiver.running(rig) as server:
        check(server, mint.sign(40))
        server.send(mint.sign(count), rate=RATE)  # a warm-up
        for _ in range(rounds):
            for case, cost in costs.items():
                _measure(server, *case, mint.sign(count), cost)
    head = (
        "tails", "p50 of a logout, ms", "p99, ms", "p99 / without tails", "Redis' CPU",
        "reads/s", "CPU of the tails",
    )  # fmt: skip
    alone = percentile(costs[0, False].latencies, 0.99)
    rows = [
        (
            _name(*case),
            f"{percentile(cost.latencies, 0.5) * 1e3:.2f}",
            f"{percentile(cost.latencies, 0.99) * 1e3:.2f}",
            f"{percentile(cost.latencies, 0.99) / alone:.1f}",
            f"{median(cost.redis_cpu):.0%}",
            f"{median(cost.reads):,.0f}",
            f"{median(cost.own_cpu):.0%}",
        )
        for case, cost in costs.items()
    ]
    return Result(f"{table(head, rows)}\n\n{RATE} logouts a second.")


def _measure(server: Server, tails: int, all_wait: bool, tokens: list[Token], cost: Cost) -> None:
    assert server.redis is not None
    assert server.redis.process is not None
    _settle(server.redis)
    pids = [server.redis.process.pid]
    with ExitStack() as stack:
        tail_process = None
        if tails:
            with on_cores(cores()[0]):
                tail_process = stack.enter_context(
                    running_tails(server.redis.port, receiver.APP, tails, all_wait=all_wait)
                )
            pids.append(tail_process.pid)
            server.send(tokens[: len(tokens) // 4], rate=RATE)
            tokens = tokens[len(tokens) // 4 :]
            tail_process.reads()
        before, began = [cpu_seconds(pid) for pid in pids], time.perf_counter()
        latencies = server.send(tokens, rate=RATE).latencies
        seconds = time.perf_counter() - began
        spent = [(cpu_seconds(pid) - a) / seconds for pid, a in zip(pids, before, strict=True)]
        cost.reads.append(tail_process.reads() / seconds if tail_process else 0.0)
    cost.latencies += latencies
    cost.redis_cpu.append(spent[0])
    cost.own_cpu.append(spent[1] if tail_process else 0.0)


def _settle(redis: RedisServer) -> None:
    """Waits until the tails of the previous case are disconnected."""
    deadline = time.monotonic() + _PATIENCE
    with redis.client() as client:
        while int(client.info("clients")["connected_clients"]) > _CONNECTIONS:
            assert time.monotonic() < deadline, "the previous tails stay connected"
            time.sleep(0.2)


def _name(tails: int, all_wait: bool) -> str:
    if not tails:
        return "none"
    return f"{tails:,}, all wait" if all_wait else f"{tails:,}, as the guard"


def _max_connections() -> int:
    """The number of connections that a process may open here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CASES[-1][0] + _OTHER_FILES
    if soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_FILES
