"""What the readers of an app's stream cost the writer of a logout: the tails of guards.

    as the guard   up to 50 wait in Redis; of more, each reads twice a second
    all wait       every one in ``XREAD BLOCK``, whatever their number

The tails are one process (`bench.crowd`) at the lowest priority on the servers' core, so that it
disturbs the receiver through Redis alone, as far as that can be had on one machine. Where they
need more than is left of that core, they read later than real ones would.
"""

import resource
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.crowd import reading
from bench.figures import median, percentile, table
from bench.machine import cores, cpu_seconds, on_cores
from bench.report import Result
from bench.servers import Server, check, receiver
from bench.throughput import stage
from bench.tokens import ES256, Token
from tests.support.redis_server import RedisServer

RATE = 50
"""Logouts a second. With 200, two thousand tails need more than one core for reading alone."""
SECONDS = 5
ROUNDS = 2

CASES = ((0, False), (50, False), (500, False), (500, True), (2000, False), (2000, True))
"""How many, and whether all of them wait."""

# Files of a process beside its connections.
_OTHER_FILES = 200

# Redis has more to do with tails that have gone than with a few connections of others.
_CONNECTIONS, _PATIENCE = 20, 20.0


@dataclass(slots=True)
class Cost:
    """The rounds of one case. Latencies in seconds; the rest for each second."""

    waited: list[float] = field(default_factory=list)
    redis_cpu: list[float] = field(default_factory=list)
    own_cpu: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)


def run(*, quick: bool) -> Result:
    rounds, count = (1, 100) if quick else (ROUNDS, RATE * SECONDS)
    cases = [case for case in CASES if case[0] <= (50 if quick else _most())]
    costs = {case: Cost() for case in cases}
    with stage(ES256) as (where, mint), receiver.running(where) as server:
        check(server, mint.sign(40))
        server.send(mint.sign(count), rate=RATE)  # warms up
        for _ in range(rounds):
            for case, cost in costs.items():
                _measure(server, *case, mint.sign(count), cost)
    head = (
        "tails", "p50 of a logout, ms", "p99, ms", "p99 / without tails", "Redis' CPU",
        "reads/s", "CPU of the tails",
    )  # fmt: skip
    alone = percentile(costs[0, False].waited, 0.99)
    rows = [
        (
            _name(*case),
            f"{percentile(cost.waited, 0.5) * 1e3:.2f}",
            f"{percentile(cost.waited, 0.99) * 1e3:.2f}",
            f"{percentile(cost.waited, 0.99) / alone:.1f}",
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
        crowd = None
        if tails:
            with on_cores(cores()[0]):
                crowd = stack.enter_context(
                    reading(server.redis.port, receiver.APP, tails, all_wait=all_wait)
                )
            pids.append(crowd.pid)
            server.send(tokens[: len(tokens) // 4], rate=RATE)
            tokens = tokens[len(tokens) // 4 :]
            crowd.reads()
        before, began = [cpu_seconds(pid) for pid in pids], time.perf_counter()
        waited = server.send(tokens, rate=RATE).latencies
        seconds = time.perf_counter() - began
        spent = [(cpu_seconds(pid) - a) / seconds for pid, a in zip(pids, before, strict=True)]
        cost.reads.append(crowd.reads() / seconds if crowd else 0.0)
    cost.waited += waited
    cost.redis_cpu.append(spent[0])
    cost.own_cpu.append(spent[1] if crowd else 0.0)


def _settle(redis: RedisServer) -> None:
    """Wait until the tails of the case before are gone."""
    deadline = time.monotonic() + _PATIENCE
    with redis.client() as client:
        while int(client.info("clients")["connected_clients"]) > _CONNECTIONS:
            assert time.monotonic() < deadline, "the tails before do not go"
            time.sleep(0.2)


def _name(tails: int, all_wait: bool) -> str:
    if not tails:
        return "none"
    return f"{tails:,}, all wait" if all_wait else f"{tails:,}, as the guard"


def _most() -> int:
    """How many connections a process may have here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CASES[-1][0] + _OTHER_FILES
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_FILES
