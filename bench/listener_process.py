"""Runs a listener of the client package, or a bare reader, in its own process.

It records what it receives, and when, by ``time.perf_counter``, which all processes of a machine
share.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

from backchannel_logout import AsyncListener, Event, Gap
from backchannel_logout.contract.event import stream_id
from backchannel_logout.redis.connection import connect_async

ListenerMode = Literal["group", "broadcast"]
Mode = ListenerMode | Literal["subscriber", "reader"]
"""``subscriber`` and ``reader`` use redis-py alone: ``SUBSCRIBE``, and ``XREAD BLOCK``."""

_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Received:
    """One item: a session's id, or the message of a bare reader, and the time.

    For an event also the seconds since the receiver got its request (``received_at``), and since it
    was in the stream (by the entry's id in whole milliseconds, less half of one).
    """

    what: str
    at: float
    since_received: float = 0.0
    since_written: float = 0.0


@dataclass(frozen=True, slots=True)
class ListenerProcess:
    """A running listener process."""

    pid: int
    _pipe: Connection

    def take(self, count: int) -> list[Received]:
        """All items since the last call, once there are ``count``."""
        self._pipe.send(count)
        assert self._pipe.poll(_PATIENCE), f"not {count} received in {_PATIENCE:.0f} s"
        items: list[Received] = self._pipe.recv()
        return items


@contextmanager
def listening(mode: Mode, url: str, source: str) -> Iterator[ListenerProcess]:
    """A process that listens from now on, on the core of this thread.

    ``source`` is a listener's app, a subscriber's channel, or a reader's stream.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_main, args=(mode, url, source, theirs), daemon=True)
    process.start()
    assert process.pid is not None
    try:
        assert ours.poll(_PATIENCE), f"the {mode} does not start"
        ours.recv()
        yield ListenerProcess(process.pid, ours)
        ours.send(None)
        process.join(_PATIENCE)
    finally:
        process.kill()
        process.join()


# -- in the other process -------------------------------------------------------------------


def _main(mode: Mode, url: str, source: str, pipe: Connection) -> None:
    if mode == "subscriber":
        asyncio.run(_subscribe(url, source, pipe))
    elif mode == "reader":
        asyncio.run(_read(url, source, pipe))
    else:
        asyncio.run(_listen(mode, url, source, pipe))


async def _listen(
    mode: Literal["group", "broadcast"], url: str, app: str, pipe: Connection
) -> None:
    received: list[Received] = []

    async def handle(event: Event) -> None:
        at, now = time.perf_counter(), time.time()
        written = (stream_id(event.id or "")[0] + 0.5) / 1000
        received.append(Received(event.sid or "", at, now - event.received_at, now - written))

    async def begin(_: Gap) -> None:
        pipe.send("started")

    async with (
        AsyncListener(url, app=app, mode=mode, start="now") as listener,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(listener.run(handle, on_gap=begin))
        await _send_items(received, pipe)
        listener.stop()


async def _subscribe(url: str, channel: str, pipe: Connection) -> None:
    received: list[Received] = []
    client = connect_async(url, timeout=_PATIENCE)
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(channel)

        async def listen() -> None:
            async for message in pubsub.listen():
                if message["type"] == "subscribe":
                    pipe.send("started")
                else:
                    received.append(Received(message["data"].decode(), time.perf_counter()))

        await _send_while(listen(), received, pipe)
    await client.aclose()


async def _read(url: str, stream: str, pipe: Connection) -> None:
    received: list[Received] = []
    client: Any = connect_async(url, timeout=_PATIENCE, protocol=2)

    async def read() -> None:
        last = "0-0"
        pipe.send("started")
        while True:
            for _, entries in await client.xread({stream: last}, block=1000, count=256):
                at = time.perf_counter()
                received.extend(Received(fields[b"what"].decode(), at) for _, fields in entries)
                last = entries[-1][0]

    await _send_while(read(), received, pipe)
    await client.aclose()


async def _send_while(
    receive: Coroutine[Any, Any, None], received: list[Received], pipe: Connection
) -> None:
    receiving = asyncio.create_task(receive)
    await _send_items(received, pipe)
    receiving.cancel()
    await asyncio.gather(receiving, return_exceptions=True)


async def _send_items(received: list[Received], pipe: Connection) -> None:
    """Sends the received items whenever requested, until the request is None."""
    loop = asyncio.get_running_loop()
    while (count := await loop.run_in_executor(None, pipe.recv)) is not None:
        while len(received) < count:
            await asyncio.sleep(0.05)
        pipe.send(list(received))
        received.clear()
