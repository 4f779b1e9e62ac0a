"""The limit of concurrent code exchanges, and that each code is redeemed once."""

import asyncio
import contextlib

import pytest

from app.console.sign_in.code_exchanges import (
    MAX_CONCURRENT,
    MAX_PER_PEER,
    MAX_USED,
    AlreadyUsed,
    Busy,
    CodeExchanges,
)
from tests.support.clock import Clock

HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"


async def hold(
    exchanges: CodeExchanges, peers: list[str]
) -> tuple[asyncio.Event, list[asyncio.Task[None]]]:
    """Exchanges that are under way until the event is set, one for each of ``peers``."""
    let_go = asyncio.Event()
    begun: list[str] = []

    async def one(state: str, peer: str) -> None:
        async with exchanges.exchange(state, peer):
            begun.append(state)
            await let_go.wait()

    tasks = [asyncio.create_task(one(f"held-{n}", peer)) for n, peer in enumerate(peers)]
    while len(begun) < len(peers):
        await asyncio.sleep(0)
    return let_go, tasks


async def test_a_state_is_taken_once_also_where_the_exchange_fails(clock: Clock) -> None:
    exchanges = CodeExchanges(clock)
    with contextlib.suppress(RuntimeError):
        async with exchanges.exchange("a", HERE):
            with pytest.raises(AlreadyUsed):
                async with exchanges.exchange("a", ELSEWHERE):
                    pass
            raise RuntimeError
    with pytest.raises(AlreadyUsed):
        async with exchanges.exchange("a", HERE):
            pass
    async with exchanges.exchange("b", HERE):
        pass


async def test_one_address_leaves_room_for_others(clock: Clock) -> None:
    exchanges = CodeExchanges(clock, wait=0.01)
    let_go, held = await hold(exchanges, [HERE] * MAX_PER_PEER)
    with pytest.raises(Busy):
        async with exchanges.exchange("late", HERE):
            pass
    async with exchanges.exchange("other", ELSEWHERE):
        pass
    let_go.set()
    await asyncio.gather(*held)
    async with exchanges.exchange("late", HERE):
        pass  # that there was no room has not used it


async def test_all_addresses_together_are_bounded_and_wait_for_room(clock: Clock) -> None:
    exchanges = CodeExchanges(clock, wait=0.01)
    peers = [f"192.0.2.{n}" for n in range(MAX_CONCURRENT)]
    let_go, held = await hold(exchanges, peers)
    with pytest.raises(Busy):
        async with exchanges.exchange("late", "198.51.100.1"):
            pass
    patient = CodeExchanges(clock, wait=60.0)
    let_go_later, held_later = await hold(patient, peers)
    waiting = asyncio.create_task(patient.exchange("late", "198.51.100.1").__aenter__())
    await asyncio.sleep(0)
    assert not waiting.done()
    for event in (let_go, let_go_later):
        event.set()
    await asyncio.gather(*held, *held_later)
    await waiting


async def test_what_is_remembered_is_bounded_by_time_and_number(clock: Clock) -> None:
    exchanges = CodeExchanges(clock)
    for n in range(MAX_USED + 1):
        async with exchanges.exchange(f"s{n}", f"peer-{n}"):
            pass
    assert exchanges.remembered == (MAX_USED, 0)
    clock.now += 601
    async with exchanges.exchange("fresh", HERE):
        pass
    assert exchanges.remembered == (1, 0)
