"""Work in the background, for as long as something else lasts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

# A cancellation that has not ended a task within so many seconds is said again: libraries wait
# with `asyncio.wait_for`, which before Python 3.12 can swallow one.
_AGAIN_SECONDS = 1.0


@contextlib.asynccontextmanager
async def background(
    work: Iterable[Callable[[], Coroutine[Any, Any, object]]],
) -> AsyncIterator[None]:
    """Run each beside the body, and end them with it; what they raise is dropped."""
    tasks = [asyncio.create_task(one()) for one in work]
    try:
        yield
    finally:
        await end(tasks)


async def end(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel the tasks, and wait until they have ended."""
    pending = all_of = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_SECONDS)
    await asyncio.gather(*all_of, return_exceptions=True)
