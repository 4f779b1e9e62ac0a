"""A near cache for threads: its tail runs on an event loop in a thread of its own."""

import asyncio
import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from backchannel_logout.checker import NO_ANSWER, RevocationChecker
from backchannel_logout.contract.readers import ReaderKind
from backchannel_logout.near.cache import NearCache
from backchannel_logout.near.event_reader import EventReader
from backchannel_logout.near.reports import Reports
from backchannel_logout.near.tail import Tail
from backchannel_logout.redis import connection


class ThreadedNearCache:
    """The cache, and the thread that keeps it true; both anew in a process that was forked.

    ``renew`` is called when another server may be the primary, before anything that it says is
    kept. Times are in seconds.
    """

    def __init__(
        self,
        url: str,
        reading: RevocationChecker,
        most: int,
        *,
        max_stale: float,
        timeout: float,
        renew: Callable[[], None],
    ) -> None:
        self._url = url
        self._reading = reading
        self._most = most
        self._max_stale = max_stale
        self._timeout = timeout
        self._renew = renew
        self._begin_anew()
        _ALL.add(self)

    def _begin_anew(self) -> None:
        # A lock that another thread held at the fork stays locked in the child.
        self._starting = threading.Lock()
        self.cache = NearCache(self._most, max_stale=self._max_stale)
        self._thread: threading.Thread | None = None
        self._end: Callable[[], object] = _nothing
        self._stopped = False
        self._reports: Reports | None = None

    def start(self) -> None:
        """Have the thread run."""
        if self._thread is not None and self._thread.is_alive():
            return
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._stopped = False
                self._thread = threading.Thread(
                    target=lambda: asyncio.run(self._run()), name="backchannel-logout", daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """End the thread; whoever asks then starts another one."""
        with self._starting:
            self._stopped = True
            with contextlib.suppress(RuntimeError):  # its loop has ended just now
                self._end()
            if self._thread is not None:
                self._thread.join(self._timeout * 4)
                self._thread = None

    async def _run(self) -> None:
        cache = self.cache
        reports = Reports(self._reading.keys.readers, ReaderKind.CACHE, sid=self._reading.sid)
        client = connection.connect_async(self._url, timeout=self._timeout)
        tail = Tail(
            client,
            EventReader(self._reading.keys, self._reading, cache),
            cache,
            reports,
            timeout=self._timeout,
            connected=self._connected,
            changed=lambda: None,
        )
        loop, following = asyncio.get_running_loop(), asyncio.create_task(tail.run())
        self._end = lambda: loop.call_soon_threadsafe(following.cancel)
        if self._stopped:  # before there was anything to end
            following.cancel()
        self._reports = reports
        try:
            await asyncio.gather(following, return_exceptions=True)
        finally:
            self._end = _nothing
            self._reports = None
            await connection.aclose(client)

    async def _connected(self) -> None:
        self._renew()

    def say_farewell(self) -> None:
        """Remove the report of a thread that runs until the interpreter ends."""
        if self._reports is None:
            return
        with contextlib.suppress(*NO_ANSWER):
            # Not on the thread's event loop: at this point no address can be looked up there.
            client: Any = connection.connect(self._url, timeout=self._timeout)
            try:
                for command in self._reports.leave():
                    client.execute_command(*command)
            finally:
                connection.close(client)


def _nothing() -> None:
    """There is no thread to end."""


_ALL: "weakref.WeakSet[ThreadedNearCache]" = weakref.WeakSet()


def _after_fork() -> None:
    for one in list(_ALL):
        one._begin_anew()  # noqa: SLF001  its own module


@atexit.register
def _at_exit() -> None:
    """Nobody has closed these guards. Without a farewell their process counts for a minute as one
    that has not read."""
    for one in list(_ALL):
        one.say_farewell()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
