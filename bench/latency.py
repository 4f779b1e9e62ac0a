"""Single logouts on an idle machine, next to the minimum of work that they need.

    logout    the POST over a persistent connection, until its 200
    bare      parsing the token, verifying its signature, and a ``SET`` with the same Redis library
              on the same event loop; no HTTP

Rounds of the two alternate. Both run on the servers' core, Redis on the other.
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
from bench.throughput import new_rig
from bench.tokens import Token

ROUNDS = 15
CALLS = 200
GOAL = 3


async def bare(url: str, jwks: dict[str, object], tokens: Sequence[Token]) -> list[float]:
    """The seconds for each token."""
    keys, client, seconds = asgi.public_keys(jwks), connect_async(url, timeout=5), []
    await client.ping()
    for token in tokens:
        start = time.perf_counter()
        claims = asgi.verified(token.text, keys)
        await client.set(f"bench:{claims['sid']}", claims["iat"], px=60_000)
        seconds.append(time.perf_counter() - start)
    await client.aclose()
    return seconds


def run(*, quick: bool) -> Result:
    rounds, calls = (2, 40) if quick else (ROUNDS, CALLS)
    logouts: list[list[float]] = []
    minimum: list[list[float]] = []
    with new_rig() as (rig, mint), receiver.running(rig) as server:
        assert server.redis is not None
        check(server, mint.sign(40))
        jwks = rig.provider.jwks()
        for _ in range(rounds):
            tokens = mint.sign(calls)
            logouts.append(server.send(tokens, connections=1).latencies)
            with on_cores(cores()[0]):
                minimum.append(uvloop.run(bare(server.redis.url, jwks, tokens)))
    ratios = [median(a) / median(b) for a, b in zip(logouts, minimum, strict=True)]
    rows = [
        (name, *(f"{percentile([*chain(*rounds_of)], q) * 1e6:.0f}" for q in (0.5, 0.99)))
        for name, rounds_of in (("logout", logouts), ("bare SET and one verification", minimum))
    ]
    what = "p50 of a logout on an idle machine, beside a bare SET and one verification"
    claim = Claim(what, f"≤ {GOAL}", spread(ratios), held=median(ratios) <= GOAL)
    text = table(("", "p50, µs", "p99, µs"), rows)
    return Result(f"{text}\n\nRatio of the medians: {spread(ratios)}.", [claim])
