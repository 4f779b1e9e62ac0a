"""Who is told, in a process of its own: a listener of the client package, or a bare reader.

It notes what it hears, and when, by ``time.perf_counter``, which all processes of a machine share.
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
"""``subscriber`` and ``reader`` are the library alone: ``SUBSCRIBE``, and ``XREAD BLOCK``."""

_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Heard:
    """One item: a session's id, or what a bare reader was sent, and the moment.

    Of an event also the seconds since the receiver had its request (``received_at``), and since it
    was in the stream (by the entry's id, which has whole milliseconds: half of one is taken off).
    """

    what: str
    at: float
    since_received: float = 0.0
    since_written: float = 0.0


@dataclass(frozen=True, slots=True)
class Ears:
    """A process that hears."""

    pid: int
    _pipe: Connection

    def take(self, count: int) -> list[Heard]:
        """All that it has heard since the last time, once there are so many."""
        self._pipe.send(count)
        assert self._pipe.poll(_PATIENCE), f"not {count} heard in {_PATIENCE:.0f} s"
        found: list[Heard] = self._pipe.recv()
        return found


@contextmanager
def hearing(mode: Mode, url: str, of: str) -> Iterator[Ears]:
    """One that hears from now on, on the core of this thread.

    ``of`` is a listener's app, a subscriber's channel, or a reader's stream.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_main, args=(mode, url, of, theirs), daemon=True)
    process.start()
    assert process.pid is not None
    try:
        assert ours.poll(_PATIENCE), f"the {mode} does not begin"
        ours.recv()
        yield Ears(process.pid, ours)
        ours.send(None)
        process.join(_PATIENCE)
    finally:
        process.kill()
        process.join()


# -- in the other process -------------------------------------------------------------------


def _main(mode: Mode, url: str, of: str, pipe: Connection) -> None:
    if mode == "subscriber":
        asyncio.run(_subscribe(url, of, pipe))
    elif mode == "reader":
        asyncio.run(_read(url, of, pipe))
    else:
        asyncio.run(_listen(mode, url, of, pipe))


async def _listen(
    mode: Literal["group", "broadcast"], url: str, app: str, pipe: Connection
) -> None:
    heard: list[Heard] = []

    async def handle(event: Event) -> None:
        at, now = time.perf_counter(), time.time()
        written = (stream_id(event.id or "")[0] + 0.5) / 1000
        heard.append(Heard(event.sid or "", at, now - event.received_at, now - written))

    async def begin(_: Gap) -> None:
        pipe.send("it has begun")

    async with (
        AsyncListener(url, app=app, mode=mode, start="now") as listener,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(listener.run(handle, on_gap=begin))
        await _give(heard, pipe)
        listener.stop()


async def _subscribe(url: str, channel: str, pipe: Connection) -> None:
    heard: list[Heard] = []
    client = connect_async(url, timeout=_PATIENCE)
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(channel)

        async def listen() -> None:
            async for message in pubsub.listen():
                if message["type"] == "subscribe":
                    pipe.send("it has begun")
                else:
                    heard.append(Heard(message["data"].decode(), time.perf_counter()))

        await _give_while(listen(), heard, pipe)
    await client.aclose()


async def _read(url: str, stream: str, pipe: Connection) -> None:
    heard: list[Heard] = []
    client: Any = connect_async(url, timeout=_PATIENCE, protocol=2)

    async def read() -> None:
        last = "0-0"
        pipe.send("it has begun")
        while True:
            for _, entries in await client.xread({stream: last}, block=1000, count=256):
                at = time.perf_counter()
                heard.extend(Heard(fields[b"what"].decode(), at) for _, fields in entries)
                last = entries[-1][0]

    await _give_while(read(), heard, pipe)
    await client.aclose()


async def _give_while(
    hear: Coroutine[Any, Any, None], heard: list[Heard], pipe: Connection
) -> None:
    hearing = asyncio.create_task(hear)
    await _give(heard, pipe)
    hearing.cancel()
    await asyncio.gather(hearing, return_exceptions=True)


async def _give(heard: list[Heard], pipe: Connection) -> None:
    """Hand over what was heard as often as it is wanted, until nothing is."""
    loop = asyncio.get_running_loop()
    while (wanted := await loop.run_in_executor(None, pipe.recv)) is not None:
        while len(heard) < wanted:
            await asyncio.sleep(0.05)
        pipe.send(list(heard))
        heard.clear()
