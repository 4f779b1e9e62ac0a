"""How long until an app is told: from the provider's POST to the handler, beside a bare hop.

    told        the POST is sent, at 500 a second; a listener's handler in another process runs
    bare hop    a ``PUBLISH`` is sent, at 500 a second; a subscriber in another process, by the same
                library, has the message

Rounds of the two alternate, through one Redis. The receiver is on the servers' core; Redis, the
load and who is told are on the other.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain

from backchannel_logout.connection import connect_async
from bench.ears import CHANNEL, Ears, ListenerMode, hearing
from bench.figures import median, percentile, spread, table
from bench.load import moments
from bench.machine import cpu_seconds
from bench.report import Claim, Result
from bench.servers import Server, check, receiver
from bench.throughput import stage
from bench.tokens import CLIENT_ID, Mint

RATE = 500
SECONDS = 3
ROUNDS = 4
GOAL = 5

# An app for each mode, so that one does not work while the other is measured.
APPS: Mapping[ListenerMode, str] = {"group": receiver.APP, "broadcast": "forum"}

_CLIENTS = f'[{{client_id = "{CLIENT_ID}", app = "shop"}}, {{client_id = "forum", app = "forum"}}]'
_AUDIENCE: Mapping[ListenerMode, str] = {"group": CLIENT_ID, "broadcast": "forum"}


@dataclass(slots=True)
class Told:
    """The rounds of one mode. Seconds, of each logout."""

    handled: list[list[float]] = field(default_factory=list)
    """From the POST to the handler."""
    answered: list[list[float]] = field(default_factory=list)
    """From the moment when the POST was due to its 200."""
    since_received: list[list[float]] = field(default_factory=list)
    """From the receiver's ``received_at`` to the handler."""
    since_written: list[list[float]] = field(default_factory=list)
    """From the entry in the stream to the handler."""
    cpu: list[float] = field(default_factory=list)
    """What the listener's process takes for one, in each round."""


def run(*, quick: bool) -> Result:
    rounds, count = (1, 200) if quick else (ROUNDS, RATE * SECONDS)
    told = {mode: Told() for mode in APPS}
    hops: list[list[float]] = []
    with (
        stage() as (where, mint),
        receiver.running(where, clients=_CLIENTS) as server,
        ExitStack() as stack,
    ):
        assert server.redis is not None
        check(server, mint.sign(40))
        url = server.redis.url
        ears = {mode: stack.enter_context(hearing(mode, url, APPS[mode])) for mode in told}
        subscriber = stack.enter_context(hearing("subscriber", url, ""))
        for n in range(rounds + 1):  # the first one warms up
            hop = asyncio.run(_hops(url, subscriber, count))
            for mode, one in told.items():
                _round(server, mint, ears[mode], mode, count, one if n else Told())
            if n:
                hops.append(hop)
    return _result(told, hops)


def _round(
    server: Server, mint: Mint, ears: Ears, mode: ListenerMode, count: int, told: Told
) -> None:
    tokens = mint.sign(count, audience=(_AUDIENCE[mode],))
    before = cpu_seconds(ears.pid)
    outcome = server.send(tokens, rate=RATE)
    sent = {token.sid: at for token, at in zip(tokens, outcome.sent, strict=True)}
    heard = [one for one in ears.take(count) if one.what in sent]
    assert len(heard) == count, "a logout was handled twice, or not at all"
    told.handled.append([one.at - sent[one.what] for one in heard])
    told.since_received.append([one.since_received for one in heard])
    told.since_written.append([one.since_written for one in heard])
    told.cpu.append((cpu_seconds(ears.pid) - before) / count)
    told.answered.append(outcome.latencies)


async def _hops(url: str, subscriber: Ears, count: int) -> list[float]:
    """Seconds of each; sent at the moments at which the load sends."""
    client = connect_async(url, timeout=5)
    await client.ping()
    sent, began = dict[str, float](), time.perf_counter()
    for n, due in enumerate(moments(count, RATE)):
        await asyncio.sleep(began + due - time.perf_counter())
        sent[str(n)] = time.perf_counter()
        await client.publish(CHANNEL, str(n))
    await client.aclose()
    return [one.at - sent[one.what] for one in subscriber.take(count)]


def _result(told: Mapping[ListenerMode, Told], hops: list[list[float]]) -> Result:
    rows = [_row("bare hop", hops)]
    claims = []
    for mode, one in told.items():
        found = [percentile(a, 0.99) / median(b) for a, b in zip(one.handled, hops, strict=True)]
        middle = [median(a) / median(b) for a, b in zip(one.handled, hops, strict=True)]
        rows += [
            (*_row(f"{mode}: POST to handler", one.handled), spread(middle), spread(found)),
            _row(f"{mode}: of that, from `received_at` on", one.since_received),
            _row(f"{mode}: of that, from the stream's entry on", one.since_written),
            _row(f"{mode}: POST to its 200", one.answered),
        ]
        claims.append(
            Claim(
                f"p99 from POST to handler ({mode}), {RATE} a second, beside the median of a hop",
                f"≤ {GOAL}",
                spread(found),
                held=median(found) <= GOAL,
            )
        )
    head = ("", "p50, ms", "p99, ms", "p50 / hop's p50", "p99 / hop's p50")
    cpu = ", ".join(f"{median(one.cpu) * 1e6:.0f} µs ({mode})" for mode, one in told.items())
    return Result(
        f"{table(head, [(*row, '', '')[:5] for row in rows])}\n\n"
        f"Processor time of the listener for one logout: {cpu}.",
        claims,
    )


def _row(name: str, rounds: list[list[float]]) -> tuple[str, ...]:
    everything = [*chain(*rounds)]
    return name, *(f"{percentile(everything, share) * 1e3:.2f}" for share in (0.5, 0.99))
