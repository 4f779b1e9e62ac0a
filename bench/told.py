"""How long until an app is told: from the provider's POST to the handler, beside bare hops.

    told         the POST is sent, at 500 a second; a listener's handler in another process runs
    bare hop     a ``PUBLISH`` is sent, at 500 a second; a subscriber in another process, by the
                 same library, has the message
    stream hop   the same through a stream: ``XADD`` and ``XREAD BLOCK``
    the channel  the POST is sent; a bare subscriber of the app's channel ``feed`` has the event:
                 what is left without the listener, and without all that it promises

Rounds alternate, through one Redis. The receiver is on the servers' core; Redis, the load and who
is told are on the other. A POST counts from when it is sent, or from when it was due, where all
of the load's connections were waiting for the server.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

from backchannel_logout import AppKeys
from backchannel_logout.redis.connection import connect_async
from bench.ears import Ears, Heard, ListenerMode, hearing
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

Whom = ListenerMode | Literal["channel"]

# An app for each, so that one does not work while the other is measured.
APPS: Mapping[Whom, str] = {"group": receiver.APP, "broadcast": "forum", "channel": "wiki"}

_CLIENTS = (
    f'[{{client_id = "{CLIENT_ID}", app = "shop"}}, {{client_id = "forum", app = "forum"}}, '
    '{client_id = "wiki", app = "wiki"}]'
)
_AUDIENCE: Mapping[Whom, str] = {"group": CLIENT_ID, "broadcast": "forum", "channel": "wiki"}

_CHANNEL, _STREAM = "bench:hop", "bench:stream-hop"


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
    told = {whom: Told() for whom in APPS}
    hops, stream_hops = list[list[float]](), list[list[float]]()
    with (
        stage() as (where, mint),
        receiver.running(where, clients=_CLIENTS) as server,
        ExitStack() as stack,
    ):
        assert server.redis is not None
        check(server, mint.sign(40))
        url = server.redis.url
        ears = {whom: stack.enter_context(_ears(whom, url)) for whom in told}
        subscriber = stack.enter_context(hearing("subscriber", url, _CHANNEL))
        reader = stack.enter_context(hearing("reader", url, _STREAM))
        for n in range(rounds + 1):  # the first one warms up
            hop = asyncio.run(_hops(url, _publish, subscriber, count))
            stream_hop = asyncio.run(_hops(url, _add, reader, count))
            for whom, one in told.items():
                _round(server, mint, ears[whom], whom, count, one if n else Told())
            if n:
                hops.append(hop)
                stream_hops.append(stream_hop)
    return _result(told, hops, stream_hops)


def _ears(whom: Whom, url: str) -> AbstractContextManager[Ears]:
    if whom == "channel":
        return hearing("subscriber", url, AppKeys(APPS[whom]).feed)
    return hearing(whom, url, APPS[whom])


def _round(server: Server, mint: Mint, ears: Ears, whom: Whom, count: int, told: Told) -> None:
    tokens = mint.sign(count, audience=(_AUDIENCE[whom],))
    before = cpu_seconds(ears.pid)
    outcome = server.send(tokens, rate=RATE)
    sent = {token.sid: at for token, at in zip(tokens, outcome.sent, strict=True)}
    items = [(_sid(whom, one), one) for one in ears.take(count)]
    heard = [(sid, one) for sid, one in items if sid in sent]
    assert len(heard) == count, "a logout was handled twice, or not at all"
    told.handled.append([one.at - sent[sid] for sid, one in heard])
    told.since_received.append([one.since_received for _, one in heard])
    told.since_written.append([one.since_written for _, one in heard])
    told.cpu.append((cpu_seconds(ears.pid) - before) / count)
    told.answered.append(outcome.latencies)


def _sid(whom: Whom, heard: Heard) -> str:
    return str(json.loads(heard.what)["sid"]) if whom == "channel" else heard.what


async def _publish(client: Any, what: str) -> None:
    await client.publish(_CHANNEL, what)


async def _add(client: Any, what: str) -> None:
    await client.xadd(_STREAM, {"what": what})


async def _hops(
    url: str, send: Callable[[Any, str], Awaitable[None]], ears: Ears, count: int
) -> list[float]:
    """Seconds of each; sent at the moments at which the load sends."""
    client = connect_async(url, timeout=5)
    await client.ping()
    sent, began = dict[str, float](), time.perf_counter()
    for n, due in enumerate(moments(count, RATE)):
        await asyncio.sleep(began + due - time.perf_counter())
        sent[str(n)] = time.perf_counter()
        await send(client, str(n))
    await client.aclose()
    return [one.at - sent[one.what] for one in ears.take(count)]


def _result(
    told: Mapping[Whom, Told], hops: list[list[float]], stream_hops: list[list[float]]
) -> Result:
    rows = [
        (*_row("bare hop", hops), *_ratios(hops, hops)),
        (*_row("bare hop through a stream", stream_hops), *_ratios(stream_hops, hops)),
    ]
    claims = []
    for whom, one in told.items():
        if whom == "channel":
            name = "bare subscriber of `feed`: POST to message"
            rows.append((*_row(name, one.handled), *_ratios(one.handled, hops)))
            continue
        found = _over(one.handled, hops, 0.99)
        rows += [
            (*_row(f"{whom}: POST to handler", one.handled), *_ratios(one.handled, hops)),
            _row(f"{whom}: of that, from `received_at` on", one.since_received),
            _row(f"{whom}: of that, from the stream's entry on", one.since_written),
            _row(f"{whom}: POST to its 200", one.answered),
        ]
        claims.append(
            Claim(
                f"p99 from POST to handler ({whom}), {RATE} a second, beside the median of a hop",
                f"≤ {GOAL}",
                spread(found),
                held=median(found) <= GOAL,
            )
        )
    head = ("", "p50, ms", "p99, ms", "p50 / hop's p50", "p99 / hop's p50")
    cpu = ", ".join(
        f"{median(one.cpu) * 1e6:.0f} µs ({'bare subscriber' if whom == 'channel' else whom})"
        for whom, one in told.items()
    )
    return Result(
        f"{table(head, [(*row, '', '')[:5] for row in rows])}\n\n"
        f"Processor time of who is told, for one logout: {cpu}.",
        claims,
    )


def _over(rounds: list[list[float]], hops: list[list[float]], share: float) -> list[float]:
    """So many times the median hop of the same round."""
    return [percentile(a, share) / median(b) for a, b in zip(rounds, hops, strict=True)]


def _ratios(rounds: list[list[float]], hops: list[list[float]]) -> tuple[str, str]:
    return spread(_over(rounds, hops, 0.5)), spread(_over(rounds, hops, 0.99))


def _row(name: str, rounds: list[list[float]]) -> tuple[str, ...]:
    everything = [*chain(*rounds)]
    return name, *(f"{percentile(everything, share) * 1e3:.2f}" for share in (0.5, 0.99))
