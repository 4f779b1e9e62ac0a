"""Background tasks end with their block, even if a library swallows the cancellation."""

import asyncio

import pytest

from app.background import background, end
from tests.support.receiver import log_events


async def test_background_work_ends_with_the_body() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with background([work, work]):
        await began.wait()
        assert not ended.is_set()
    assert ended.is_set()


async def test_a_swallowed_cancellation_is_repeated() -> None:
    swallowed = 0

    async def work() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 1:
                    raise

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await end([task])
    assert swallowed == 2
    assert task.cancelled()


async def test_a_failed_task_is_logged_and_the_others_continue(
    caplog: pytest.LogCaptureFixture,
) -> None:
    other_runs = asyncio.Event()

    async def work() -> None:
        raise RuntimeError

    async def other() -> None:
        await asyncio.sleep(0)
        other_runs.set()

    async with background([work, other]):
        await other_runs.wait()
    (event,) = log_events(caplog, "background", outcome="failed")
    assert event["task"].endswith("work")
    assert event["exc_info"]
