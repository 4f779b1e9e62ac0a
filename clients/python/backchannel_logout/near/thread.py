"""A near cache for threads: its tail runs on an event loop in its own thread."""

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
from backchannel_logout.redis.primary import Primary


class ThreadedNearCache:
    """The cache, and the thread that keeps it true; a forked process gets new ones.

    ``renew`` is called when another server may be the primary, before any of its answers is kept.
    Times are in seconds.
    """

    def __init__(
        self,
        url: str,
        checker: RevocationChecker,
        max_sessions: int,
        *,
        max_stale: float,
        timeout: float,
        renew: Callable[[], None],
    ) -> None:
        self._url = url
        self._checker = checker
        self._max_sessions = max_sessions
        self._max_stale = max_stale
        self._timeout = timeout
        self._renew = renew
        self._reset()
        _ALL.add(self)

    def _reset(self) -> None:
        # A lock that another thread held at the fork stays locked in the child.
        self._starting = threading.Lock()
        self.cache = NearCache(self._max_sessions, max_stale=self._max_stale)
        self._thread: threading.Thread | None = None
        self._end: Callable[[], object] = _nothing
        self._stopped = False
        self._reports: Reports | None = None

    def start(self) -> None:
        """Start the thread if it does not run."""
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
        """End the thread; the next check starts another one."""
        with self._starting:
            self._stopped = True
            with contextlib.suppress(RuntimeError):  # its loop has just ended
                self._end()
            if self._thread is not None:
                self._thread.join(self._timeout * 4)
                self._thread = None

    async def _run(self) -> None:
        cache, keys = self.cache, self._checker.keys
        reports = Reports(keys.readers, ReaderKind.CACHE, sid=self._checker.sid)
        tail = Tail(
            Primary(self._url, keys.events, timeout=self._timeout),
            EventReader(keys, self._checker, cache),
            cache,
            reports,
            timeout=self._timeout,
            connected=self._connected,
            changed=_nothing,
        )
        loop, task = asyncio.get_running_loop(), asyncio.create_task(tail.run())
        self._end = lambda: loop.call_soon_threadsafe(task.cancel)
        if self._stopped:  # `stop` came before there was a task
            task.cancel()
        self._reports = reports
        try:
            await asyncio.gather(task, return_exceptions=True)
        finally:
            self._end = _nothing
            self._reports = None

    async def _connected(self) -> None:
        self._renew()

    def say_farewell(self) -> None:
        """Remove the report of a thread that runs until the interpreter ends."""
        if self._reports is None:
            return
        with contextlib.suppress(*NO_ANSWER):
            # Not on the thread's event loop, which cannot resolve addresses at this point.
            client: Any = connection.connect(self._url, timeout=self._timeout)
            try:
                for command in self._reports.leave():
                    client.execute_command(*command)
            finally:
                connection.close(client)


def _nothing() -> None:
    """Do nothing."""


_ALL: "weakref.WeakSet[ThreadedNearCache]" = weakref.WeakSet()


def _after_fork() -> None:
    for near in list(_ALL):
        near._reset()  # noqa: SLF001  its own module


@atexit.register
def _at_exit() -> None:
    """For guards that were never closed: without a farewell their process counts as silent for a
    minute."""
    for near in list(_ALL):
        near.say_farewell()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
