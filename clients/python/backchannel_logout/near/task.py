"""A near cache for asyncio: its tail is a task of the event loop that uses the guard."""

import asyncio
import contextlib

from backchannel_logout.checker import RevocationChecker
from backchannel_logout.contract.readers import ReaderKind
from backchannel_logout.near.cache import NearCache
from backchannel_logout.near.event_reader import EventReader
from backchannel_logout.near.reports import Reports
from backchannel_logout.near.tail import Tail
from backchannel_logout.redis import connection
from backchannel_logout.redis.primary import Primary


class TaskNearCache:
    """The cache, and the task that keeps it true. Times are in seconds."""

    def __init__(
        self, checker: RevocationChecker, max_sessions: int, *, max_stale: float, timeout: float
    ) -> None:
        self._checker = checker
        self._timeout = timeout
        self.cache = NearCache(max_sessions, max_stale=max_stale)
        self._tail: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    def start(self, client: connection.AsyncClient) -> None:
        """Start the task if it does not run."""
        if self._tail is not None and not self._tail.done():
            return
        keys = self._checker.keys
        tail = Tail(
            Primary(client, keys.events, timeout=self._timeout),
            EventReader(keys, self._checker, self.cache),
            self.cache,
            Reports(keys.readers, ReaderKind.CACHE, sid=self._checker.sid),
            timeout=self._timeout,
            connected=lambda: connection.renew_async(client),
            changed=self._notify,
        )
        self._tail = asyncio.create_task(tail.run())

    @property
    def next_news(self) -> asyncio.Event:
        """Set when something is dropped from now on."""
        return self._news

    def _notify(self) -> None:
        """Wake those who wait now; later ones wait for the next event."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def stop(self) -> None:
        """End the task; the next check starts another one."""
        if self._tail is not None:
            self._tail.cancel()
            await asyncio.gather(self._tail, return_exceptions=True)

    def abandon(self) -> None:
        """Give up a task of another event loop, which may never run again."""
        tail, self._tail = self._tail, None
        self._news = asyncio.Event()
        self.cache.clear()
        if tail is not None and not tail.done():
            with contextlib.suppress(RuntimeError):  # that loop is closed
                tail.get_loop().call_soon_threadsafe(tail.cancel)
