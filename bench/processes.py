"""Two receivers on one Redis, next to one receiver alone.

On two cores the load and Redis compete with the second receiver, so the rate alone says little:
the figure is the processor time of one logout in either case. With enough cores the rate grows by
``2 x time with one / time with two``. The load drives both ports at once, half of the tokens each,
as an even load balancer does.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.figures import median, spread, table
from bench.load import LoadResult
from bench.machine import cores, cpu_seconds
from bench.report import Claim, Result
from bench.servers import Server, check, receiver
from bench.throughput import new_rig
from bench.tokens import Token

ROUNDS = 12
TOKENS = 2500
GOAL = 1.7

_CONNECTIONS = 128


def run(*, quick: bool) -> Result:
    rounds, tokens = (1, 400) if quick else (ROUNDS, TOKENS)
    with (
        new_rig() as (rig, mint),
        rig.redis("alone") as redis_alone,
        rig.redis("shared") as redis_shared,
        receiver.running(rig, "alone", redis=redis_alone) as alone,
        receiver.running(rig, "first", redis=redis_shared) as first,
        receiver.running(rig, "second", redis=redis_shared, own_cores=cores()[1:]) as second,
    ):
        groups = {"one": [alone], "two": [first, second]}
        rates: dict[str, list[float]] = {name: [] for name in groups}
        times: dict[str, list[float]] = {name: [] for name in groups}
        for server in (alone, first, second):
            check(server, mint.sign(40))
        for _ in range(rounds + 1):  # the first one warms up
            batch = mint.sign(tokens)
            for name, servers in groups.items():
                before = sum(cpu_seconds(server.pid) for server in servers)
                rates[name].append(_send(servers, batch))
                taken = sum(cpu_seconds(server.pid) for server in servers) - before
                times[name].append(taken / tokens)
    gains = [2 * one / two for one, two in zip(times["one"], times["two"], strict=True)][1:]
    rows = [
        (name, f"{median(rates[name][1:]):,.0f}", f"{median(times[name][1:]) * 1e6:.0f}")
        for name in groups
    ]
    text = table(("processes", "logouts/s", "CPU, µs"), rows)
    claim = Claim(
        "what two receivers do, beside one, in processor time",
        f"≥ {GOAL}", spread(gains), held=median(gains) >= GOAL,
    )  # fmt: skip
    ratio = median(rates["two"][1:]) / median(rates["one"][1:])
    return Result(
        f"{text}\n\nIn processor time two do {spread(gains)} of one; on the two cores that they "
        f"share with Redis and the load, {ratio:.2f} times the logouts.",
        [claim],
    )


def _send(servers: Sequence[Server], batch: Sequence[Token]) -> float:
    """Logouts per second of all servers together, each with an equal part of the batch."""
    parts = [batch[n :: len(servers)] for n in range(len(servers))]
    with ThreadPoolExecutor(len(servers)) as pool:
        outcomes: list[LoadResult] = list(
            pool.map(
                lambda server, part: server.send(part, connections=_CONNECTIONS // len(servers)),
                servers, parts,
            )
        )  # fmt: skip
    return sum(outcome.rate for outcome in outcomes)
