"""The cost of a logout with more issuers, more apps of a token, and more markers.

Receivers that differ in one thing each, in alternating rounds, with ES256. The cost is the
processor time of the receiver and of its Redis.
"""

from contextlib import ExitStack

from bench.figures import median, spread, table
from bench.machine import cpu_seconds
from bench.report import Result
from bench.servers import Rig, Server, check, receiver
from bench.throughput import new_rig
from bench.tokens import CLIENT_ID, ES256, Token

ROUNDS = 4
TOKENS = 2000
ISSUERS = 200
APPS = 10
MARKERS = 1_000_000

_CLIENTS = [CLIENT_ID, *(f"client-{n}" for n in range(1, APPS))]
_FILL = 2000


def run(*, quick: bool) -> Result:
    rounds, tokens, markers = (1, 200, 10_000) if quick else (ROUNDS, TOKENS, MARKERS)
    with new_rig(ES256) as (rig, mint), ExitStack() as stack:
        many = tuple(f"{rig.provider.origin}/t{n}" for n in range(ISSUERS))
        audience = tuple(_CLIENTS)
        clients = ", ".join(
            f'{{client_id = "{client}", app = "{_app(client)}"}}' for client in _CLIENTS
        )
        servers = {
            "one issuer, one app, few markers": receiver.running(rig, "plain"),
            f"{ISSUERS} issuers": receiver.running(rig, "issuers", issuers=many),
            f"a token for {APPS} apps": receiver.running(rig, "apps", clients=f"[{clients}]"),
            f"{markers:,} markers in Redis": _with_markers(stack, rig, markers),
        }
        running = {name: stack.enter_context(server) for name, server in servers.items()}
        own: dict[str, list[float]] = {name: [] for name in running}
        redis: dict[str, list[float]] = {name: [] for name in running}
        for n in range(rounds + 1):  # the first round is a warm-up
            for name, server in running.items():
                issuers = many if server.name == "issuers" else ()
                to = audience if server.name == "apps" else (CLIENT_ID,)
                if not n:
                    check(server, mint.sign(40, issuers=issuers, audience=to))
                spent = _spent(server, mint.sign(tokens, issuers=issuers, audience=to))
                if n:
                    own[name].append(spent[0])
                    redis[name].append(spent[1])
    plain = next(iter(own.values()))
    rows = [
        (
            name,
            f"{median(own[name]) * 1e6:.0f}",
            spread([a / b for a, b in zip(own[name], plain, strict=True)]),
            f"{median(redis[name]) * 1e6:.0f}",
        )
        for name in running
    ]
    return Result(table(("", "CPU, µs", "beside the first", "Redis' CPU, µs"), rows))


def _app(client_id: str) -> str:
    return receiver.APP if client_id == CLIENT_ID else client_id


def _with_markers(stack: ExitStack, rig: Rig, count: int) -> "receiver.Running":
    redis = stack.enter_context(rig.redis("markers"))
    with redis.client() as client:
        for first in range(0, count, _FILL):
            pipeline = client.pipeline(transaction=False)
            for n in range(first, min(first + _FILL, count)):
                pipeline.set(f"bcl:v1:{{{receiver.APP}}}:sid:{n:022}", "1795283041", ex=86400)
            pipeline.execute()
    return receiver.running(rig, "markers", redis=redis)


def _spent(server: Server, tokens: list[Token]) -> tuple[float, float]:
    """The processor time of one logout in seconds, for the receiver and for Redis."""
    assert server.redis is not None
    assert server.redis.process is not None
    pids = (server.pid, server.redis.process.pid)
    before = [cpu_seconds(pid) for pid in pids]
    server.send(tokens)
    own, redis = (
        (cpu_seconds(pid) - earlier) / len(tokens)
        for pid, earlier in zip(pids, before, strict=True)
    )
    return own, redis
