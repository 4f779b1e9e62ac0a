"""Work in the background ends with what it was for, also where a library swallows the cancel."""

import asyncio

from app.background import background, end


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


async def test_a_swallowed_cancellation_is_said_again() -> None:
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


async def test_what_the_work_raises_is_nobodys_fault() -> None:
    async def work() -> None:
        raise RuntimeError

    async with background([work]):
        await asyncio.sleep(0)
