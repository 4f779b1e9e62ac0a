"""Load in its own thread: many connections, a moderate rate, an entry for each request."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Self

from tests.faults.tokens import SentToken
from tests.faults.wire import Answer, Wire
from tests.support.receiver import wait_for

# Longer than any answer may take, so that a late answer counts as late and not as missing.
PATIENCE = 6.0

_PAUSE_WITHOUT_LISTENER = 0.05

# How often the load measures its own delay.
_TICK = 0.05


@dataclass(frozen=True, slots=True)
class Entry:
    """One request: its token, its time (monotonic seconds), and its answer."""

    sent: SentToken
    began: float
    seconds: float
    answer: Answer


class Load:
    """``connections`` of them send the tokens of ``draw``, ``rate`` per second in all.

    ``hang_up`` is the share of requests whose client leaves within 150 ms, answered or not.
    """

    def __init__(
        self,
        urls: Sequence[str],
        draw: Callable[[], SentToken],
        random: Random,
        *,
        rate: float = 150,
        connections: int = 24,
        hang_up: float = 0,
    ) -> None:
        self.entries: list[Entry] = []
        self.lag = 0.0
        """The longest that this machine kept us waiting for a timer, in seconds."""
        self._urls = urls
        self._draw = draw
        self._random = random
        self._interval = connections / rate
        self._connections = connections
        self._hang_up = hang_up
        self._stop = threading.Event()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let each connection finish its request."""
        self._stop.set()
        self._thread.join(PATIENCE + 10)
        if self._fault is not None:
            raise self._fault

    def more(self, count: int) -> None:
        """Wait for ``count`` further answers, errors included."""
        wanted = len(self.entries) + count
        wait_for(lambda: len(self.entries) >= wanted or self._fault, f"{count} more answers")

    def more_of(self, count: int, status: int) -> None:
        """Wait for ``count`` further answers with this status."""
        since = len(self.entries)

        def enough() -> bool:
            return sum(entry.answer.status == status for entry in self.entries[since:]) >= count

        wait_for(enough, f"{count} more answers with {status}")

    def _run(self) -> None:
        try:
            asyncio.run(self._send())
        except BaseException as error:  # noqa: BLE001  raised where the test waits
            self._fault = error

    async def _send(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._measure_lag())
            for n in range(self._connections):
                group.create_task(self._keep_sending(self._urls[n % len(self._urls)]))

    async def _measure_lag(self) -> None:
        while not self._stop.is_set():
            before = time.monotonic()
            await asyncio.sleep(_TICK)
            self.lag = max(self.lag, time.monotonic() - before - _TICK)

    async def _keep_sending(self, url: str) -> None:
        wire = Wire(url, PATIENCE)
        await asyncio.sleep(self._random.uniform(0, self._interval))
        while not self._stop.is_set():
            sent = self._draw()
            leaves = self._random.random() < self._hang_up
            after = self._random.uniform(0, 0.15) if leaves else None
            began = time.monotonic()
            answer = await wire.post(sent.token, hang_up_after=after)
            seconds = time.monotonic() - began
            self.entries.append(Entry(sent, began, seconds, answer))
            pause = self._interval * self._random.uniform(0.5, 1.5) - seconds
            await asyncio.sleep(max(pause, 0 if answer.status else _PAUSE_WITHOUT_LISTENER))
        wire.close()
