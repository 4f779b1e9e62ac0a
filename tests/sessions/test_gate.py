"""The pause after a provider's 429."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime, formatdate

import pytest
import uvloop

from app.sessions.api_client.rate_limit_gate import (
    MAX_PAUSE,
    MIN_PAUSE,
    UNKNOWN_PAUSE,
    RateLimitGate,
)
from app.sessions.session_provider import FaultKind, ProviderFault

NOW = 1_800_000_000.0


class Clock:
    """Epoch seconds and a monotonic clock that advance together."""

    def __init__(self) -> None:
        self.passed = 0.0

    def gate(self) -> RateLimitGate:
        return RateLimitGate(clock=lambda: NOW + self.passed, monotonic=lambda: self.passed)


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": formatdate(NOW + 9, usegmt=True)}, 9),
        ({"retry-after": format_datetime(datetime.fromtimestamp(NOW + 9, UTC))}, 9),
        ({"x-ratelimit-reset": str(int(NOW) + 4)}, 4),
        ({"retry-after": "7", "x-ratelimit-reset": str(int(NOW) + 4)}, 7),
        ({"retry-after": "soon", "x-ratelimit-reset": str(int(NOW) + 4)}, 4),
        ({}, UNKNOWN_PAUSE),
        ({"retry-after": "-5"}, UNKNOWN_PAUSE),
        ({"retry-after": "9" * 400}, UNKNOWN_PAUSE),
        ({"retry-after": "0"}, MIN_PAUSE),
        ({"retry-after": "86400"}, MAX_PAUSE),
        ({"x-ratelimit-reset": "0"}, MIN_PAUSE),
        ({"x-ratelimit-reset": str(int(NOW) + 99999)}, MAX_PAUSE),
    ],
)
def test_a_429_closes_the_gate_for_its_time_within_bounds(
    headers: dict[str, str], pause: float
) -> None:
    gate = Clock().gate()
    gate.close(headers)
    assert gate.left() == pytest.approx(pause)


async def test_an_open_gate_passes_every_call() -> None:
    await RateLimitGate().wait()


async def test_a_gate_closed_for_long_rejects_callers_at_once() -> None:
    clock = Clock()
    gate = clock.gate()
    gate.close({"retry-after": "60"})
    clock.passed = 10
    with pytest.raises(ProviderFault) as caught:
        await gate.wait()
    assert caught.value.kind is FaultKind.LIMITED
    assert caught.value.retry_after == pytest.approx(50)


async def test_a_gate_opens_again() -> None:
    clock = Clock()
    gate = clock.gate()
    gate.close({"retry-after": "60"})
    clock.passed = 60
    async with asyncio.timeout(1):
        await gate.wait()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_short_limit_is_waited_for_on_any_event_loop(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """uvloop, which the receiver uses, can end a sleep a millisecond early."""

    async def waits(number: int) -> None:
        await asyncio.sleep(number / 1700)  # at any fraction of a millisecond
        gate = RateLimitGate()
        gate.close({"retry-after": "1"})
        await gate.wait()
        assert gate.left() == 0

    async def wait_often() -> None:
        await asyncio.gather(*(waits(number) for number in range(200)))

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(wait_often())


async def test_a_waiting_call_is_rejected_when_the_gate_closes_again() -> None:
    gate = RateLimitGate()
    gate.close({"retry-after": "1"})
    waiting = asyncio.create_task(gate.wait())
    await asyncio.sleep(0)
    gate.close({"retry-after": "60"})
    with pytest.raises(ProviderFault) as caught:
        await waiting
    assert caught.value.kind is FaultKind.LIMITED


def test_a_second_429_never_opens_it_earlier() -> None:
    gate = Clock().gate()
    gate.close({"retry-after": "60"})
    gate.close({"retry-after": "2"})
    assert gate.left() == 60
