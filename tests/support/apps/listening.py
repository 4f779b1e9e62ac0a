"""An app's event stream, and listeners that record the items they receive."""

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
from tests.support.revocations import new_app
from tests.support.servers.redis_server import RedisServer

QUICK: dict[str, Any] = {"retry_after": 0.02, "take_over_after": 1.0}
"""Options that keep waits in tests short."""


class Stream:
    """The stream of a new app, on a real server."""

    def __init__(self, client: "redis.Redis", app: str | None = None) -> None:
        self.app = app or new_app()
        self.keys = AppKeys(self.app)
        self.redis: Any = client
        self.redis.hset(self.keys.meta, mapping={"v": "1", "max_session_age": "3600"})

    def add(self, *sids: str) -> list[str]:
        """Add an event for each session. Returns their ids."""
        pipeline = self.redis.pipeline(transaction=False)
        for sid in sids:
            pipeline.xadd(self.keys.events, event(self.app, sid).to_fields())
        ids: list[str] = pipeline.execute()
        return ids

    def pending(self, group: str = "default") -> int:
        """The number of events that were delivered but not acknowledged."""
        count: int = self.redis.xpending(self.keys.events, group)["pending"]
        return count

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
    """Wait until the condition holds, with the event loop running. Fails after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"not true within a minute: {what}"
        await asyncio.sleep(0.01)


def in_group(server: RedisServer, stream: Stream, **options: Any) -> AsyncListener:
    """A listener in group mode."""
    return AsyncListener(server.url, app=stream.app, mode="group", **(QUICK | options))


async def items(listener: AsyncListener, count: int) -> list[Event | Gap]:
    """The next items. All except the last count as handled."""
    taken = []
    async with asyncio.timeout(60):
        async for item in listener:
            taken.append(item)
            if len(taken) == count:
                break
    return taken


class RecordingListener:
    """A running listener, and the items it received. The handler raises for the sessions in
    ``fails``."""

    def __init__(self, listener: AsyncListener, fails: Iterable[str] = ()) -> None:
        self.listener = listener
        self.fails = set(fails)
        self.sids: list[str | None] = []
        self.tried: list[str | None] = []
        self.gaps: list[Gap] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "RecordingListener":
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
        await until(lambda: self.gaps, "the listener has started")


class ListenerProcess:
    """A listener in a process of its own, which a test can kill. It prints a line per item."""

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
