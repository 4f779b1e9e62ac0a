"""Events in an app's stream, and listeners that write down what they are handed."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import redis

from backchannel_logout import AppKeys, AsyncListener, Event, EventKind, Gap, GapReason
from tests.support.receiver import ROOT, clean_environment
from tests.support.redis_server import RedisServer
from tests.support.revocations import new_app

QUICK: dict[str, Any] = {"retry_after": 0.02, "take_over_after": 1.0}
"""Options with which tests need not wait for long."""


class Stream:
    """The stream of an app of the test's own, on a real server."""

    def __init__(self, client: "redis.Redis", app: str | None = None) -> None:
        self.app = app or new_app()
        self.keys = AppKeys(self.app)
        self.redis: Any = client
        self.redis.hset(self.keys.meta, mapping={"v": "1", "max_session_age": "3600"})

    def add(self, *sids: str) -> list[str]:
        """Add an event for each session; returns their ids."""
        pipeline = self.redis.pipeline(transaction=False)
        for sid in sids:
            pipeline.xadd(self.keys.events, event(self.app, sid).to_fields())
        ids: list[str] = pipeline.execute()
        return ids

    def pending(self, group: str = "default") -> int:
        """How many events have been delivered and not acknowledged."""
        found: int = self.redis.xpending(self.keys.events, group)["pending"]
        return found

    def dead(self) -> list[dict[str, str]]:
        return [fields for _, fields in self.redis.xrange(self.keys.dead_letters)]

    def receipts(self) -> list[dict[str, str]]:
        return [fields for _, fields in self.redis.xrange(self.keys.receipts)]


def event(app: str, sid: str) -> Event:
    return Event(
        kind=EventKind.SESSION, iss="https://op.example", sid=sid, cutoff=int(time.time()),
        app=app, source="backchannel-logout", received_at=time.time(),
    )  # fmt: skip


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait until it holds, with the event loop running; fail after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"in a minute not true: {what}"
        await asyncio.sleep(0.01)


def in_group(server: RedisServer, stream: Stream, **options: Any) -> AsyncListener:
    """A listener in group mode."""
    return AsyncListener(server.url, app=stream.app, mode="group", **(QUICK | options))


async def items(listener: AsyncListener, count: int) -> list[Event | Gap]:
    """The next items, all but the last of them handled."""
    found = []
    async with asyncio.timeout(60):
        async for item in listener:
            found.append(item)
            if len(found) == count:
                break
    return found


class Hearing:
    """A listener that runs, and what it was handed. ``fails`` says of which sessions a handler
    raises."""

    def __init__(self, listener: AsyncListener, fails: Iterable[str] = ()) -> None:
        self.listener = listener
        self.fails = set(fails)
        self.sids: list[str | None] = []
        self.tried: list[str | None] = []
        self.gaps: list[Gap] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Hearing":
        self._task = asyncio.create_task(self.listener.run(self.handle, on_gap=self.note))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        await self.listener.aclose()
        await self._task

    async def handle(self, item: Event) -> None:
        self.tried.append(item.sid)
        if item.sid in self.fails:
            raise RuntimeError("the handler's own words")
        self.sids.append(item.sid)

    async def note(self, gap: Gap) -> None:
        self.gaps.append(gap)

    @property
    def reasons(self) -> list[GapReason]:
        return [gap.reason for gap in self.gaps]

    async def has(self, *sids: str) -> None:
        await until(lambda: set(sids) <= set(self.sids), f"handled: {sids}")

    async def began(self) -> None:
        await until(lambda: self.gaps, "the listener has begun")


class Child:
    """A listener in a process of its own, to be killed. It writes a line for each item."""

    PROGRAM = """
import asyncio, os, signal, sys
from backchannel_logout import AsyncListener, Gap

async def main(url, app, options):
    async with AsyncListener(url, app=app, **options) as listener:
        async for item in listener:
            name = item.reason.value if isinstance(item, Gap) else item.sid
            print(name, flush=True)
            if name.startswith("pill"):
                os.kill(os.getpid(), signal.SIGKILL)
            if name.startswith("hang"):
                await asyncio.sleep(1000)

asyncio.run(main(sys.argv[1], sys.argv[2], eval(sys.argv[3])))
"""

    def __init__(self, directory: Path, url: str, app: str, **options: Any) -> None:
        self._out = directory / f"child-{time.monotonic_ns()}"
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", self.PROGRAM, url, app, repr(options)],
                stdout=out, cwd=directory,
                env=clean_environment() | {"PYTHONPATH": str(ROOT)},
            )  # fmt: skip

    @property
    def heard(self) -> list[str]:
        return self._out.read_text().split()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)
