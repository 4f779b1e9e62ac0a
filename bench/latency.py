"""One logout at a time on an idle machine, beside what it can not do without.

    logout    the POST over a kept connection, until its 200
    bare      a ``SET`` by the same Redis library on the same event loop, and before it the
              token taken apart and its signature verified; no HTTP

Rounds of the two alternate. Both on the servers' core; Redis on the other.
"""

import time
from collections.abc import Sequence
from itertools import chain

import uvloop

from backchannel_logout.redis.connection import connect_async
from bench.figures import median, percentile, spread, table
from bench.machine import cores, on_cores
from bench.report import Claim, Result
from bench.servers import asgi, check, receiver
from bench.throughput import stage
from bench.tokens import Token

ROUNDS = 15
CALLS = 200
GOAL = 3


async def bare(url: str, jwks: dict[str, object], tokens: Sequence[Token]) -> list[float]:
    """Seconds of each."""
    keys, client, seconds = asgi.public_keys(jwks), connect_async(url, timeout=5), []
    await client.ping()
    for token in tokens:
        began = time.perf_counter()
        claims = asgi.verified(token.text, keys)
        await client.set(f"bench:{claims['sid']}", claims["iat"], px=60_000)
        seconds.append(time.perf_counter() - began)
    await client.aclose()
    return seconds


def run(*, quick: bool) -> Result:
    rounds, calls = (2, 40) if quick else (ROUNDS, CALLS)
    waited: list[list[float]] = []
    least: list[list[float]] = []
    with stage() as (where, mint), receiver.running(where) as server:
        assert server.redis is not None
        check(server, mint.sign(40))
        jwks = where.provider.jwks()
        for _ in range(rounds):
            tokens = mint.sign(calls)
            waited.append(server.send(tokens, connections=1).latencies)
            with on_cores(cores()[0]):
                least.append(uvloop.run(bare(server.redis.url, jwks, tokens)))
    found = [median(a) / median(b) for a, b in zip(waited, least, strict=True)]
    rows = [
        (name, *(f"{percentile([*chain(*all_of)], q) * 1e6:.0f}" for q in (0.5, 0.99)))
        for name, all_of in (("logout", waited), ("bare SET and one verification", least))
    ]
    what = "p50 of a logout on an idle machine, beside a bare SET and one verification"
    claim = Claim(what, f"≤ {GOAL}", spread(found), held=median(found) <= GOAL)
    text = table(("", "p50, µs", "p99, µs"), rows)
    return Result(f"{text}\n\nRatio of the medians: {spread(found)}.", [claim])
