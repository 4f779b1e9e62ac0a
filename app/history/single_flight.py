"""One Redis read shared by concurrent callers, for example when many pages reload."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from app.history.app_reader import Unreadable

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Reads once for all waiting callers. A caller never gets a read that began before its call."""

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._turn = asyncio.Lock()
        self._begun = self._done = 0
        self._result: T | Unreadable | None = None

    async def get(self) -> T:
        """Raises `Unreadable`."""
        needed = self._begun + 1
        async with self._turn:
            if self._done < needed:
                self._begun += 1
                try:
                    self._result = await self._read()
                except Unreadable as fault:
                    self._result = fault
                self._done = self._begun
            result = self._result
        if isinstance(result, Unreadable):
            raise result
        return result  # type: ignore[return-value]  # set by the read
