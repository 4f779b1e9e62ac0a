"""A hundred thousand logouts at full speed: none is lost, memory stays flat, the stream is trimmed.

With ES256, because the tokens must be signed within the five minutes for which they are valid.
"""

from collections.abc import Sequence

from backchannel_logout import AppKeys
from bench.figures import table
from bench.machine import resident_bytes
from bench.report import Claim, Result
from bench.servers import Server, check, receiver
from bench.throughput import new_rig
from bench.tokens import ES256, Token

LOGOUTS = 100_000
STREAM = LOGOUTS // 2
CHUNKS = 10

# Allowed growth of memory after the first fifth: the allocator's noise.
FLAT = 0.10

_SETTINGS = "event_max_len = {stream}"


def run(*, quick: bool) -> Result:
    logouts, stream = (2000, 1000) if quick else (LOGOUTS, STREAM)
    with (
        new_rig(ES256) as (rig, mint),
        receiver.running(rig, top=_SETTINGS.format(stream=stream)) as server,
    ):
        check(server, mint.sign(40))
        resident, rates, tokens = [resident_bytes(server.pid)], [], list[Token]()
        for _ in range(CHUNKS):
            chunk = mint.sign(logouts // CHUNKS)
            rates.append(server.send(chunk).rate)
            resident.append(resident_bytes(server.pid))
            tokens += chunk
        lost, kept = _lost(server, tokens), _stream_length(server)
    growth = resident[-1] / resident[CHUNKS // 5] - 1
    marks = [0, 1, CHUNKS // 5, CHUNKS // 2, CHUNKS]
    rows = [(f"{mark * logouts // CHUNKS:,}", f"{resident[mark] / 1e6:.1f}") for mark in marks]
    text = table(("after logouts", "RSS of the receiver, MB"), rows)
    return Result(
        f"{text}\n\n{logouts:,} logouts (ES256, 32 connections), {min(rates):,.0f} to "
        f"{max(rates):,.0f} a second; {lost} lost; the stream has {kept:,} entries of "
        f"{stream:,} allowed.",
        [
            Claim(f"lost of {logouts:,} logouts", "0", str(lost), held=lost == 0),
            Claim(
                "growth of memory after a fifth of the storm",
                f"≤ {FLAT:.0%}",
                f"{growth:.1%}",
                held=growth <= FLAT,
            ),
            Claim(
                "entries in the stream after it",
                f"{stream:,}",
                f"{kept:,}",
                held=kept == stream,
            ),
        ],
    )


def _lost(server: Server, tokens: Sequence[Token]) -> int:
    """The number of sessions without a marker."""
    assert server.redis is not None
    keys, existing = AppKeys(receiver.APP), 0
    with server.redis.client() as client:
        for first in range(0, len(tokens), 1000):
            markers = [keys.sid(token.iss, token.sid) for token in tokens[first : first + 1000]]
            existing += int(client.exists(*markers))
    return len(tokens) - existing


def _stream_length(server: Server) -> int:
    assert server.redis is not None
    with server.redis.client() as client:
        return int(client.xlen(AppKeys(receiver.APP).events))
