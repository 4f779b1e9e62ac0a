"""How long to wait for Redis, and how another task ends the wait."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import redis


class Deadlines:
    """One wait at a time. Ending it early raises ``redis.ConnectionError`` or ``TimeoutError``
    there, like a lost connection."""

    def __init__(self) -> None:
        self._waiting: asyncio.Timeout | None = None
        self._interrupted = self._closed = False

    @contextlib.asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[Callable[[], None]]:
        """Raises ``TimeoutError`` after this many seconds.

        Yields a function: after it is called the wait can be interrupted. It raises if that has
        already happened.
        """

        def allow_interrupts() -> None:
            if self._interrupted or self._closed:
                raise redis.ConnectionError("interrupted")
            self._waiting = scope

        self._interrupted = False
        try:
            async with asyncio.timeout(seconds) as scope:
                yield allow_interrupts
        finally:
            self._waiting = None

    def interrupt(self) -> None:
        """End the current wait."""
        self._interrupted = True
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(float("-inf"))

    def close(self) -> None:
        """End the current wait and all later ones."""
        self._closed = True
        self.interrupt()
