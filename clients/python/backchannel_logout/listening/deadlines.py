"""What a listener waits for, with a bound, and so that another task can end it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import redis


class Deadlines:
    """One wait at a time. Ending one raises a fault of Redis there, as a lost connection does."""

    def __init__(self) -> None:
        self._waiting: asyncio.Timeout | None = None
        self._interrupted = self._ending = False

    @contextlib.asynccontextmanager
    async def at_most(self, seconds: float) -> AsyncIterator[Callable[[], None]]:
        """Raises ``TimeoutError`` after so many seconds.

        Gives a function: from its call on the wait can be interrupted; it raises where that has
        been done already.
        """

        def may_be_interrupted() -> None:
            if self._interrupted or self._ending:
                raise redis.ConnectionError("broken off")
            self._waiting = scope

        self._interrupted = False
        try:
            async with asyncio.timeout(seconds) as scope:
                yield may_be_interrupted
        finally:
            self._waiting = None

    def interrupt(self) -> None:
        """End the wait of now."""
        self._interrupted = True
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(float("-inf"))

    def end(self) -> None:
        """Wait no more, from now on."""
        self._ending = True
        self.interrupt()
