"""A near cache for asyncio: its tail is a task of the event loop in which the guard is used."""

import asyncio
import contextlib

from backchannel_logout.checker import RevocationChecker
from backchannel_logout.contract.readers import ReaderKind
from backchannel_logout.near.cache import NearCache
from backchannel_logout.near.event_reader import EventReader
from backchannel_logout.near.reports import Reports
from backchannel_logout.near.tail import Tail
from backchannel_logout.redis import connection


class TaskNearCache:
    """The cache, and the task that keeps it true. Times are in seconds."""

    def __init__(
        self, reading: RevocationChecker, most: int, *, max_stale: float, timeout: float
    ) -> None:
        self._reading = reading
        self._timeout = timeout
        self.cache = NearCache(most, max_stale=max_stale)
        self._tail: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    def start(self, client: connection.AsyncClient) -> None:
        """Have the task run."""
        if self._tail is not None and not self._tail.done():
            return
        tail = Tail(
            client,
            EventReader(self._reading.keys, self._reading, self.cache),
            self.cache,
            Reports(self._reading.keys.readers, ReaderKind.CACHE, sid=self._reading.sid),
            timeout=self._timeout,
            connected=lambda: connection.renew_async(client),
            changed=self._tell,
        )
        self._tail = asyncio.create_task(tail.run())

    @property
    def next_news(self) -> asyncio.Event:
        """Is set when something is dropped from now on."""
        return self._news

    def _tell(self) -> None:
        """Wake those who wait now; who waits later waits for the next."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def stop(self) -> None:
        """End the task; whoever asks then starts another one."""
        if self._tail is not None:
            self._tail.cancel()
            await asyncio.gather(self._tail, return_exceptions=True)

    def leave(self) -> None:
        """Give up a task that is another event loop's, which may never run again."""
        tail, self._tail = self._tail, None
        self._news = asyncio.Event()
        self.cache.clear()
        if tail is not None and not tail.done():
            with contextlib.suppress(RuntimeError):  # that loop is closed
                tail.get_loop().call_soon_threadsafe(tail.cancel)
