"""A listener for threads: an `AsyncListener` on an event loop in its own thread.

with Listener("redis://127.0.0.1:6379/0", app="shop", mode="group") as listener:
    for item in listener:
        ...
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from typing import Any, Self, TypeVar

from backchannel_logout.contract.event import Event
from backchannel_logout.contract.gap import Gap
from backchannel_logout.listening.listener import GRACE_SECONDS, AsyncListener, Item

T = TypeVar("T")

_POLL_SECONDS = 0.2


class Listener:
    """Delivers the revocations of a relying app, for threads; see `AsyncListener`.

    ``redis`` is a URL; the other options are the same. One thread runs the loop, any thread may
    call `close`. The listener counts as alive while a handler works. Its thread starts with the
    first item, so a process may fork before that.
    """

    def __init__(self, redis: str, **options: Any) -> None:
        if not isinstance(redis, str):
            raise TypeError("Listener takes a URL: it cannot share a client of the app's")
        self._listener = AsyncListener(redis, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._reader: threading.Thread | None = None
        self._left = threading.Event()
        self._lock = threading.Lock()
        self._closed = False

    def __iter__(self) -> Self:
        """Begin a loop. An item that an earlier loop left unfinished has failed."""
        self._abandon(None)
        return self

    def __next__(self) -> Item:
        """The next item; the previous one was handled. Ends when the listener is closed."""
        self._reader = threading.current_thread()
        self._left.clear()
        try:
            return self._run(self._next)
        except (StopAsyncIteration, CancelledError):
            self._left.set()
            raise StopIteration from None

    def run(self, handler: Callable[[Event], object], *, on_gap: Callable[[Gap], object]) -> None:
        """Call ``handler`` with each event and ``on_gap`` with each gap, until `close`; see
        `AsyncListener.run`."""
        for item in self:
            try:
                if isinstance(item, Gap):
                    on_gap(item)
                else:
                    handler(item)
            except Exception as error:  # noqa: BLE001  the app's own exceptions
                self._abandon(error)

    def close(self) -> None:
        """End the loop, also while it waits, and close the connections.

        A loop in another thread may finish its item, for ten seconds at most.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(self._listener.stop)
        self._wait_for_loop()
        asyncio.run_coroutine_threadsafe(self._listener.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def _wait_for_loop(self) -> None:
        reader = self._reader
        if reader is None or reader is threading.current_thread():
            return
        for _ in range(int(GRACE_SECONDS / _POLL_SECONDS)):
            if self._left.wait(_POLL_SECONDS) or not reader.is_alive():
                return

    async def _next(self) -> Item:
        return await anext(self._listener)

    def _abandon(self, error: Exception | None) -> None:
        async def abandon() -> None:
            self._listener.abandon(error)

        with contextlib.suppress(CancelledError, StopAsyncIteration):
            self._run(abandon)

    def _run(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run it on the loop and wait for it; Ctrl-C cancels it."""

        async def call() -> T:
            return await function()

        with self._lock:
            if self._closed and (self._loop is None or self._loop.is_closed()):
                raise StopAsyncIteration
            loop = self._started()
        future: Future[T] = asyncio.run_coroutine_threadsafe(call(), loop)
        while True:
            try:
                return future.result(_POLL_SECONDS)
            except TimeoutError:
                if loop.is_closed():  # just now, from another thread
                    raise StopAsyncIteration from None
            except BaseException:
                future.cancel()
                raise

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="backchannel-logout-listener", daemon=True
            )
            self._thread.start()
        return self._loop

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
