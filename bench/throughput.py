"""The throughput of the whole path, one server after the other, each on one core.

Rounds alternate among the rows, so that other load on the machine affects them alike; a ratio is
taken within a round. In each round a row gets a batch of fresh tokens at full speed, over 32
connections, and then another at half of that rate, for its latency.
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
from bench.servers import NotMeasured, Rig, Server, apache, asgi, check, express, receiver
from bench.tokens import RS256, Mint, Token, minting

RECEIVER, CEILING, NO_OP, BARE = "receiver", "ceiling", "Starlette no-op", "ASGI no-op"
EXPRESS, APACHE = "express-openid-connect", "mod_auth_openidc"
PEERS = (EXPRESS, APACHE)

Row = Callable[[Rig], AbstractContextManager[Server]]

ROWS: Mapping[str, Row] = {
    RECEIVER: receiver.running,
    CEILING: lambda rig: asgi.running(rig, "ceiling"),
    EXPRESS: express.running,
    APACHE: apache.running,
    NO_OP: lambda rig: asgi.running(rig, "starlette"),
    BARE: lambda rig: asgi.running(rig, "bare"),
}

# They answer every request with 200.
_VERIFY_NOTHING = (NO_OP, BARE)

ROUNDS = 20
TOKENS = 1000
"""A batch takes a fraction of a second, so that a burst of other load, which takes seconds, affects
all rows of a round."""

_WARM_UP = 8
"""Batches before the first round, for just-in-time compilers."""

_HALF_LOAD_EVERY = 4
"""In rounds, because it takes several times as long as the batch."""

_HALF_LOAD_SECONDS = 2.0


@dataclass(slots=True)
class Measured:
    """The rounds of a row. Rates are per second, latencies (at half load) and times in seconds."""

    rates: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """For one logout."""
    redis_cpu: list[float] = field(default_factory=list)
    load_busy: list[float] = field(default_factory=list)
    resident: int = 0


@contextlib.contextmanager
def new_rig(algorithm: str = RS256) -> Iterator[tuple[Rig, Mint]]:
    """A directory, a provider and its mint, with this process on the load's core."""
    with minting(algorithm) as (provider, mint), tempfile.TemporaryDirectory() as directory:
        # mod_auth_openidc drops root's rights and must still reach its files.
        Path(directory).chmod(0o755)
        with on_cores(cores()[1]):
            yield Rig(Path(directory), provider), mint


def measure(
    rows: Mapping[str, Row],
    algorithm: str = RS256,
    *,
    rounds: int = ROUNDS,
    tokens: int = TOKENS,
    warm_up: int = 2,
    half_load: bool = True,
) -> tuple[dict[str, Measured], dict[str, str]]:
    """The measured rows, and the reason for each missing one. ``warm_up`` is in batches."""
    measured: dict[str, Measured] = {}
    missing: dict[str, str] = {}
    with new_rig(algorithm) as (rig, mint), ExitStack() as stack:
        servers: dict[str, Server] = {}
        few, warm_up_tokens = mint.sign(40), mint.sign(warm_up * tokens)
        for name, row in rows.items():
            try:
                server = stack.enter_context(row(rig))
                if name not in _VERIFY_NOTHING:
                    check(server, few)
                server.prepare(warm_up_tokens)
                server.send(warm_up_tokens)
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
    server: Server, row: Measured, batch: Sequence[Token], second: Sequence[Token]
) -> None:
    """Measures one row in one round; its latency at half load only with ``second``."""
    server.prepare(batch)
    before = _cpu(server)
    outcome = server.send(batch)
    own, redis = (b - a for a, b in zip(before, _cpu(server), strict=True))
    row.rates.append(outcome.rate)
    row.cpu.append(own / len(batch))
    row.redis_cpu.append(redis / len(batch))
    row.load_busy.append(outcome.busy)
    if second:
        half_load = second[: int(outcome.rate / 2 * _HALF_LOAD_SECONDS)]
        server.prepare(half_load)
        latencies = server.send(half_load, rate=outcome.rate / 2).latencies
        row.p50.append(percentile(latencies, 0.5))
        row.p99.append(percentile(latencies, 0.99))


def _cpu(server: Server) -> tuple[float, float]:
    """The processor time of the server and of its Redis."""
    redis = server.redis.process if server.redis else None
    return cpu_seconds(server.pid), cpu_seconds(redis.pid) if redis else 0.0


def ratios(measured: Mapping[str, Measured], name: str, other: str) -> list[float]:
    """The rate of ``name`` divided by that of ``other``, round by round."""
    return [a / b for a, b in zip(measured[name].rates, measured[other].rates, strict=True)]


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
                name: median(row.rates)
                for name, row in measured.items()
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
    row = measured[name]
    return (
        name,
        f"{median(row.rates):,.0f}",
        "" if RECEIVER in (name, *missing) else spread(ratios(measured, RECEIVER, name)),
        f"{median(row.p50) * 1e3:.2f}",
        f"{median(row.p99) * 1e3:.2f}",
        f"{median(row.cpu) * 1e6:.0f}",
        f"{median(row.redis_cpu) * 1e6:.0f}" if any(row.redis_cpu) else "",
        f"{row.resident / 1e6:.0f}",
        f"{max(row.load_busy):.0%}",
    )


def _claim(
    measured: Mapping[str, Measured], missing: Mapping[str, str], other: str, goal: float
) -> Claim:
    what = f"logouts a second, beside {other}"
    for name in (RECEIVER, other):
        if name in missing:
            return Claim(what, f"≥ {goal}", missing[name], held=None)
    values = ratios(measured, RECEIVER, other)
    return Claim(what, f"≥ {goal}", spread(values), held=median(values) >= goal)


def segments(measured: Mapping[str, Measured]) -> dict[str, float]:
    """Microseconds of processor time of one logout, separated by what each row leaves out."""
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
