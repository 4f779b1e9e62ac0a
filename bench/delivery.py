"""The time from the provider's POST to a handler in the app, next to bare hops.

    listener     from a POST, at 500 a second, to a listener's handler in another process
    bare hop     from a ``PUBLISH``, at 500 a second, to a subscriber in another process, with the
                 same library
    stream hop   the same through a stream: ``XADD`` and ``XREAD BLOCK``
    the channel  from a POST to a bare subscriber of the app's channel ``feed``, which has none
                 of a listener's guarantees

Rounds alternate, through one Redis. The receiver is on the servers' core; Redis, the load and the
listeners are on the other. A POST counts from when it is sent, or from when it was due if all of
the load's connections were waiting for the server.
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
from bench.figures import median, percentile, spread, table
from bench.listener_process import ListenerMode, ListenerProcess, Received, listening
from bench.load import moments
from bench.machine import cpu_seconds
from bench.report import Claim, Result
from bench.servers import Server, check, receiver
from bench.throughput import new_rig
from bench.tokens import CLIENT_ID, Mint

RATE = 500
SECONDS = 3
ROUNDS = 4
GOAL = 5

Target = ListenerMode | Literal["channel"]

# An app for each, so that the others are idle while one is measured.
APPS: Mapping[Target, str] = {"group": receiver.APP, "broadcast": "forum", "channel": "wiki"}

_CLIENTS = (
    f'[{{client_id = "{CLIENT_ID}", app = "shop"}}, {{client_id = "forum", app = "forum"}}, '
    '{client_id = "wiki", app = "wiki"}]'
)
_AUDIENCE: Mapping[Target, str] = {"group": CLIENT_ID, "broadcast": "forum", "channel": "wiki"}

_CHANNEL, _STREAM = "bench:hop", "bench:stream-hop"


@dataclass(slots=True)
class DeliveryTimes:
    """The rounds of one target: seconds for each logout."""

    handled: list[list[float]] = field(default_factory=list)
    """From the POST to the handler."""
    answered: list[list[float]] = field(default_factory=list)
    """From when the POST was due to its 200."""
    since_received: list[list[float]] = field(default_factory=list)
    """From the receiver's ``received_at`` to the handler."""
    since_written: list[list[float]] = field(default_factory=list)
    """From the entry in the stream to the handler."""
    cpu: list[float] = field(default_factory=list)
    """The processor time of the listening process, in each round."""


def run(*, quick: bool) -> Result:
    rounds, count = (1, 200) if quick else (ROUNDS, RATE * SECONDS)
    times = {target: DeliveryTimes() for target in APPS}
    hops, stream_hops = list[list[float]](), list[list[float]]()
    with (
        new_rig() as (rig, mint),
        receiver.running(rig, clients=_CLIENTS) as server,
        ExitStack() as stack,
    ):
        assert server.redis is not None
        check(server, mint.sign(40))
        url = server.redis.url
        listeners = {target: stack.enter_context(_listener(target, url)) for target in times}
        subscriber = stack.enter_context(listening("subscriber", url, _CHANNEL))
        reader = stack.enter_context(listening("reader", url, _STREAM))
        for n in range(rounds + 1):  # the first round is a warm-up
            hop = asyncio.run(_hops(url, _publish, subscriber, count))
            stream_hop = asyncio.run(_hops(url, _add, reader, count))
            for target, measured in times.items():
                into = measured if n else DeliveryTimes()
                _round(server, mint, listeners[target], target, count, into)
            if n:
                hops.append(hop)
                stream_hops.append(stream_hop)
    return _result(times, hops, stream_hops)


def _listener(target: Target, url: str) -> AbstractContextManager[ListenerProcess]:
    if target == "channel":
        return listening("subscriber", url, AppKeys(APPS[target]).feed)
    return listening(target, url, APPS[target])


def _round(
    server: Server,
    mint: Mint,
    listener: ListenerProcess,
    target: Target,
    count: int,
    times: DeliveryTimes,
) -> None:
    tokens = mint.sign(count, audience=(_AUDIENCE[target],))
    before = cpu_seconds(listener.pid)
    outcome = server.send(tokens, rate=RATE)
    sent = {token.sid: at for token, at in zip(tokens, outcome.sent, strict=True)}
    items = [(_sid(target, item), item) for item in listener.take(count)]
    received = [(sid, item) for sid, item in items if sid in sent]
    assert len(received) == count, "a logout was handled twice or not at all"
    times.handled.append([item.at - sent[sid] for sid, item in received])
    times.since_received.append([item.since_received for _, item in received])
    times.since_written.append([item.since_written for _, item in received])
    times.cpu.append((cpu_seconds(listener.pid) - before) / count)
    times.answered.append(outcome.latencies)


def _sid(target: Target, item: Received) -> str:
    return str(json.loads(item.what)["sid"]) if target == "channel" else item.what


async def _publish(client: Any, what: str) -> None:
    await client.publish(_CHANNEL, what)


async def _add(client: Any, what: str) -> None:
    await client.xadd(_STREAM, {"what": what})


async def _hops(
    url: str, send: Callable[[Any, str], Awaitable[None]], listener: ListenerProcess, count: int
) -> list[float]:
    """The seconds of each hop, sent at the load's moments."""
    client = connect_async(url, timeout=5)
    await client.ping()
    sent, began = dict[str, float](), time.perf_counter()
    for n, due in enumerate(moments(count, RATE)):
        await asyncio.sleep(began + due - time.perf_counter())
        sent[str(n)] = time.perf_counter()
        await send(client, str(n))
    await client.aclose()
    return [item.at - sent[item.what] for item in listener.take(count)]


def _result(
    times: Mapping[Target, DeliveryTimes], hops: list[list[float]], stream_hops: list[list[float]]
) -> Result:
    rows = [
        (*_row("bare hop", hops), *_ratios(hops, hops)),
        (*_row("bare hop through a stream", stream_hops), *_ratios(stream_hops, hops)),
    ]
    claims = []
    for target, measured in times.items():
        if target == "channel":
            name = "bare subscriber of `feed`: POST to message"
            rows.append((*_row(name, measured.handled), *_ratios(measured.handled, hops)))
            continue
        ratios = _over(measured.handled, hops, 0.99)
        rows += [
            (
                *_row(f"{target}: POST to handler", measured.handled),
                *_ratios(measured.handled, hops),
            ),
            _row(f"{target}: of that, from `received_at` on", measured.since_received),
            _row(f"{target}: of that, from the stream's entry on", measured.since_written),
            _row(f"{target}: POST to its 200", measured.answered),
        ]
        claims.append(
            Claim(
                f"p99 from POST to handler ({target}), {RATE} a second, beside the median of a hop",
                f"≤ {GOAL}",
                spread(ratios),
                held=median(ratios) <= GOAL,
            )
        )
    head = ("", "p50, ms", "p99, ms", "p50 / hop's p50", "p99 / hop's p50")
    cpu = ", ".join(
        f"{median(measured.cpu) * 1e6:.0f} µs "
        f"({'bare subscriber' if target == 'channel' else target})"
        for target, measured in times.items()
    )
    return Result(
        f"{table(head, [(*row, '', '')[:5] for row in rows])}\n\n"
        f"Processor time of the listening process for one logout: {cpu}.",
        claims,
    )


def _over(rounds: list[list[float]], hops: list[list[float]], share: float) -> list[float]:
    """The percentile as a multiple of the median hop of the same round."""
    return [percentile(a, share) / median(b) for a, b in zip(rounds, hops, strict=True)]


def _ratios(rounds: list[list[float]], hops: list[list[float]]) -> tuple[str, str]:
    return spread(_over(rounds, hops, 0.5)), spread(_over(rounds, hops, 0.99))


def _row(name: str, rounds: list[list[float]]) -> tuple[str, ...]:
    everything = [*chain(*rounds)]
    return name, *(f"{percentile(everything, share) * 1e3:.2f}" for share in (0.5, 0.99))
