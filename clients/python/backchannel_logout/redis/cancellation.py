"""Cancellations that the Redis library swallows."""

import asyncio


def end_if_cancelled() -> None:
    """Raise ``CancelledError`` if the task of now was cancelled; to be called after a command.

    The library waits with ``asyncio.wait_for``, which before Python 3.12 can drop a cancellation
    that comes together with the answer: a loop around it would then never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
