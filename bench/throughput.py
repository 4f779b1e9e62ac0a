"""The whole path, one server after the other, each on one core.

Rounds alternate among the rows, so that whatever else the machine does meets them alike; a
ratio is taken within a round. In each round a row gets a batch of fresh tokens as fast as it
takes them, over 32 connections, and then another at half of that rate, for its latency.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.figures import median, percentile, spread, table
from bench.load import LoadFault
from bench.machine import cores, cpu_seconds, on_cores, resident_bytes
from bench.report import Claim, Result
from bench.servers import NotMeasured, Server, Stage, apache, asgi, check, express, receiver
from bench.tokens import RS256, Mint, Token, minting

RECEIVER, CEILING, NO_OP, BARE = "receiver", "ceiling", "Starlette no-op", "ASGI no-op"
EXPRESS, APACHE = "express-openid-connect", "mod_auth_openidc"
PEERS = (EXPRESS, APACHE)

Row = Callable[[Stage], AbstractContextManager[Server]]

ROWS: Mapping[str, Row] = {
    RECEIVER: receiver.running,
    CEILING: lambda stage: asgi.running(stage, "ceiling"),
    EXPRESS: express.running,
    APACHE: apache.running,
    NO_OP: lambda stage: asgi.running(stage, "starlette"),
    BARE: lambda stage: asgi.running(stage, "bare"),
}

# They answer 200 to anything.
_VERIFY_NOTHING = (NO_OP, BARE)

ROUNDS = 20
TOKENS = 1000
"""Of a batch: a fraction of a second, so that what others do to the machine in bursts of seconds
meets all rows of a round."""

_WARM_UP = 8
"""Batches before the first round, for compilers that wait and see."""

_HALF_LOAD_EVERY = 4
"""Rounds: it takes several times as long as the batch."""

_HALF_LOAD_SECONDS = 2.0


@dataclass(slots=True)
class Measured:
    """A row's rounds. Rates in 1/s; latencies at half load and times in seconds."""

    rates: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """For one logout."""
    redis_cpu: list[float] = field(default_factory=list)
    load_busy: list[float] = field(default_factory=list)
    resident: int = 0


@contextlib.contextmanager
def stage(algorithm: str = RS256) -> Iterator[tuple[Stage, Mint]]:
    """A folder, a provider and its mint, with this process on the load's core."""
    with minting(algorithm) as (provider, mint), tempfile.TemporaryDirectory() as directory:
        # mod_auth_openidc gives root's rights up and must still find its files.
        Path(directory).chmod(0o755)
        with on_cores(cores()[1]):
            yield Stage(Path(directory), provider), mint


def measure(
    rows: Mapping[str, Row],
    algorithm: str = RS256,
    *,
    rounds: int = ROUNDS,
    tokens: int = TOKENS,
    warm_up: int = 2,
    half_load: bool = True,
) -> tuple[dict[str, Measured], dict[str, str]]:
    """The rows that there are, and of the others why not. ``warm_up`` is in batches."""
    measured: dict[str, Measured] = {}
    missing: dict[str, str] = {}
    with stage(algorithm) as (where, mint), ExitStack() as stack:
        servers: dict[str, Server] = {}
        few, warm = mint.sign(40), mint.sign(warm_up * tokens)
        for name, row in rows.items():
            try:
                server = stack.enter_context(row(where))
                if name not in _VERIFY_NOTHING:
                    check(server, few)
                server.prepare(warm)
                server.send(warm)
            except (NotMeasured, LoadFault) as fault:
                missing[name] = str(fault)
                continue
            servers[name], measured[name] = server, Measured()
        for n in range(rounds):
            print(f"  {algorithm} round {n + 1} of {rounds}", flush=True)
            waits = half_load and n % _HALF_LOAD_EVERY == 0
            batch, second = mint.sign(tokens), mint.sign(4 * tokens) if waits else []
            for name, server in list(servers.items()):
                try:
                    _measure_one(server, measured[name], batch, second)
                except LoadFault as fault:
                    missing[name] = str(fault)
                    del servers[name], measured[name]
        for name, server in servers.items():
            measured[name].resident = resident_bytes(server.pid)
    return measured, missing


def _measure_one(
    server: Server, one: Measured, batch: Sequence[Token], second: Sequence[Token]
) -> None:
    """A row's share of a round; without ``second`` its latency at half load is not asked for."""
    server.prepare(batch)
    before = _cpu(server)
    outcome = server.send(batch)
    own, redis = (b - a for a, b in zip(before, _cpu(server), strict=True))
    one.rates.append(outcome.rate)
    one.cpu.append(own / len(batch))
    one.redis_cpu.append(redis / len(batch))
    one.load_busy.append(outcome.busy)
    if second:
        some = second[: int(outcome.rate / 2 * _HALF_LOAD_SECONDS)]
        server.prepare(some)
        waited = server.send(some, rate=outcome.rate / 2).latencies
        one.p50.append(percentile(waited, 0.5))
        one.p99.append(percentile(waited, 0.99))


def _cpu(server: Server) -> tuple[float, float]:
    """Of the server and of its Redis."""
    redis = server.redis.process if server.redis else None
    return cpu_seconds(server.pid), cpu_seconds(redis.pid) if redis else 0.0


def ratios(measured: Mapping[str, Measured], one: str, other: str) -> list[float]:
    """The rate of ``one`` divided by that of ``other``, round by round."""
    return [a / b for a, b in zip(measured[one].rates, measured[other].rates, strict=True)]


def run(*, quick: bool) -> Result:
    rounds, tokens, warm_up = (2, 600, 2) if quick else (ROUNDS, TOKENS, _WARM_UP)
    measured, missing = measure(ROWS, rounds=rounds, tokens=tokens, warm_up=warm_up)
    head = (
        "", "logouts/s", "receiver / it", "p50, ms", "p99, ms", "CPU, µs", "Redis' CPU, µs",
        "RSS, MB", "load busy",
    )  # fmt: skip
    rows = [_line(measured, missing, name) for name in ROWS]
    claims = [_claim(measured, missing, peer, 3) for peer in PEERS]
    claims.append(_claim(measured, missing, CEILING, 0.75))
    if not {RECEIVER, CEILING, NO_OP, BARE} <= measured.keys():
        return Result(table(head, rows), claims)
    return Result(
        table(head, rows),
        claims,
        {
            "rates": {
                name: median(one.rates)
                for name, one in measured.items()
                if name not in _VERIFY_NOTHING
            },
            "segments": segments(measured),
            "ratios": {
                other: median(ratios(measured, RECEIVER, other))
                for other in (*PEERS, CEILING)
                if other in measured
            },
        },
    )


def _line(measured: Mapping[str, Measured], missing: Mapping[str, str], name: str) -> Sequence[str]:
    if name in missing:
        return name, f"not measured: {missing[name]}", *([""] * 7)
    one = measured[name]
    return (
        name,
        f"{median(one.rates):,.0f}",
        "" if RECEIVER in (name, *missing) else spread(ratios(measured, RECEIVER, name)),
        f"{median(one.p50) * 1e3:.2f}",
        f"{median(one.p99) * 1e3:.2f}",
        f"{median(one.cpu) * 1e6:.0f}",
        f"{median(one.redis_cpu) * 1e6:.0f}" if any(one.redis_cpu) else "",
        f"{one.resident / 1e6:.0f}",
        f"{max(one.load_busy):.0%}",
    )


def _claim(
    measured: Mapping[str, Measured], missing: Mapping[str, str], other: str, goal: float
) -> Claim:
    what = f"logouts a second, beside {other}"
    for name in (RECEIVER, other):
        if name in missing:
            return Claim(what, f"≥ {goal}", missing[name], held=None)
    found = ratios(measured, RECEIVER, other)
    return Claim(what, f"≥ {goal}", spread(found), held=median(found) >= goal)


def segments(measured: Mapping[str, Measured]) -> dict[str, float]:
    """Microseconds of processor time of one logout, told apart by what each row leaves out."""
    bare, no_op, ceiling, whole = (
        median(measured[name].cpu) * 1e6 for name in (BARE, NO_OP, CEILING, RECEIVER)
    )
    verification, framework = max(0.0, ceiling - bare), max(0.0, no_op - bare)
    return {
        "HTTP server: uvicorn with uvloop and httptools": bare,
        "framework: Starlette's routing, request and response": framework,
        "token: form, base64, JSON, one RS256 verification": verification,
        "all else: rules, limits, writing to Redis, copy for recovery, log": max(
            0.0, whole - bare - framework - verification
        ),
    }
