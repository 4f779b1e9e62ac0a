"""Cancellations that redis-py swallows."""

import asyncio


def end_if_cancelled() -> None:
    """Raise ``CancelledError`` if the current task was cancelled; call it after each command.

    redis-py waits with ``asyncio.wait_for``, which before Python 3.12 can drop a cancellation that
    arrives together with the reply. A loop around it would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
