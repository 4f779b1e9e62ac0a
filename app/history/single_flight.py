"""One answer for all who ask the same at the same time, as when many pages are loaded again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from app.history.app_reader import Unreadable

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Asks once for all who wait; nobody is given an answer that was asked for before they came."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._turn = asyncio.Lock()
        self._begun = self._done = 0
        self._answer: T | Unreadable | None = None

    async def get(self) -> T:
        """Raises `Unreadable`."""
        wanted = self._begun + 1
        async with self._turn:
            if self._done < wanted:
                self._begun += 1
                try:
                    self._answer = await self._ask()
                except Unreadable as fault:
                    self._answer = fault
                self._done = self._begun
            answer = self._answer
        if isinstance(answer, Unreadable):
            raise answer
        return answer  # type: ignore[return-value]  # it was asked for
