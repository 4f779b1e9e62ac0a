"""Runs background tasks for as long as a block lasts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

from app.log import new_log

log = new_log(__name__)

# A task that has not ended by then is cancelled again: libraries wait with `asyncio.wait_for`,
# which can swallow a cancellation before Python 3.12.
_RETRY_SECONDS = 1.0

Work = Callable[[], Coroutine[Any, Any, object]]


@contextlib.asynccontextmanager
async def background(work: Iterable[Work]) -> AsyncIterator[None]:
    """Run each function as a task beside the block, and cancel the tasks at its end.

    An exception that ends a task early is logged; the other tasks and the block go on.
    """
    tasks = [asyncio.create_task(logged(function)) for function in work]
    try:
        yield
    finally:
        await end(tasks)


async def logged(function: Work) -> None:
    """Run the function, and log an exception that ends it."""
    try:
        await function()
    except Exception:
        name = getattr(function, "__qualname__", repr(function))
        log.exception("background", outcome="failed", task=name)


async def end(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel the tasks, and wait until they have ended."""
    pending = all_tasks = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_RETRY_SECONDS)
    await asyncio.gather(*all_tasks, return_exceptions=True)
