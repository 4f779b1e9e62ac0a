"""``python -m bench.trace``: which of our files one logout passes through, in which order.

Starts the receiver in this process, on a real Redis, and sends it one POST through the public
listener with ``sys.setprofile`` on, until the answer has arrived. A call counts with the file of
the called function; calls in a row to one file are a stay there. Files of libraries do not count,
nor does what runs once a second in the background (``_BACKGROUND``).

The numbers are a measure of how far a reader has to jump, not of speed.
"""

import argparse
import asyncio
import contextlib
import re
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from types import FrameType

import uvloop

from app.config.load import load_all
from app.runtime.serve import serve
from app.telemetry.logs.setup import set_up_log
from backchannel_logout import AppKeys
from tests.support.providers.provider import Provider
from tests.support.raw_http import logout_request
from tests.support.receiver import config
from tests.support.servers.redis_server import RedisServer

_ROOTS = tuple(f"{Path(__file__).parents[1] / folder}/" for folder in ("app", "clients/python"))

_BACKGROUND = ("store/monitor.py", "background.py")

_WARM_UP = 3
"""Logouts on another connection before the traced ones: the first one also connects to Redis."""

_PAUSE = 0.02
"""Until the write before it has no part in the trace."""

Call = tuple[str, str]
"""A file and a function."""


@contextlib.contextmanager
def traced() -> Iterator[list[Call]]:
    """Every call of our code in this thread while the block runs."""
    calls: list[Call] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(_ROOTS) and not path.endswith(_BACKGROUND):
            file = path.partition("/app/")[2] or "client: " + path.rpartition("python/")[2]
            calls.append((file, frame.f_code.co_qualname))

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def answer_to(connection: socket.socket, request: bytes) -> bytes:
    connection.sendall(request)
    answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    return answer


async def logouts(directory: Path, provider: Provider, redis: RedisServer) -> list[list[Call]]:
    """The calls of two logouts by a provider whose keys are known, on one new connection."""
    file = directory / "settings.toml"
    file.write_text(config(redis.url, f'issuer = "{provider.issuer}"'))
    loaded, printed = load_all(file, {}), list[str]()
    set_up_log(loaded.settings)
    receiver = asyncio.create_task(serve(loaded, lambda _: loaded, printed.append))
    while not (match := re.search(r"http://([\d.]+):(\d+)/backchannel-logout", "\n".join(printed))):
        await asyncio.wait({receiver}, timeout=0.05)
        if receiver.done():
            await receiver
    address, traces = (match[1], int(match[2])), list[list[Call]]()
    try:
        with socket.create_connection(address) as other:
            for n in range(_WARM_UP):
                request = logout_request(provider.token(sid=f"warm{n}"))
                await asyncio.to_thread(answer_to, other, request)
        with socket.create_connection(address) as connection:
            for n in range(2):
                await asyncio.sleep(_PAUSE)
                request = logout_request(provider.token(sid=f"trace{n}"))
                with traced() as calls:
                    await asyncio.to_thread(answer_to, connection, request)
                traces.append(calls)
    finally:
        receiver.cancel()
        await asyncio.gather(receiver, return_exceptions=True)
    with redis.client() as client:
        assert client.exists(AppKeys("shop").sid(provider.issuer, "trace1"))
    return traces


def report(title: str, calls: list[Call], *, each: bool) -> None:
    stays = [file for file, _ in groupby(file for file, _ in calls)]
    visits = Counter(stays)
    print(f"{title}: {len(calls)} calls, {len(visits)} files, {len(stays)} stays,", end=" ")
    print(f"{len(stays) - len(visits)} returns to a file left before\n")
    if each:
        print("\n".join(f"  {file:40} {function}" for file, function in calls), end="\n\n")
    print("  " + " -> ".join(stays), end="\n\n")
    print("\n".join(f"{count:4} {file}" for file, count in visits.most_common()), end="\n\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.trace", description=__doc__)
    parser.add_argument("--calls", action="store_true", help="print each call, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, Provider() as provider:
        redis = RedisServer(Path(name) / "redis").start()
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                first, later = runner.run(logouts(Path(name), provider, redis))
        finally:
            redis.stop()
    report("first POST of a connection", first, each=options.calls)
    report("a later POST", later, each=options.calls)


if __name__ == "__main__":
    main()
