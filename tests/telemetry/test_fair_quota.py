"""A kind that floods uses half of the quota, and the others find room."""

import math

import pytest

from app.telemetry.fair_quota import FairQuota
from tests.support.clock import Clock

DAY = 86400.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


def admitted(fair: FairQuota, kind: str, tries: int = 1000) -> int:
    return sum(fair.takes(kind) for _ in range(tries))


def test_a_flood_uses_half_and_the_next_kind_half_of_the_rest(clock: Clock) -> None:
    fair = FairQuota(100, DAY, clock)
    assert admitted(fair, "flood") == 50
    assert admitted(fair, "other") == 25
    assert fair.takes("third")


def test_the_used_amount_decays(clock: Clock) -> None:
    fair = FairQuota(100, DAY, clock)
    admitted(fair, "flood")
    clock.now += DAY
    assert admitted(fair, "flood") == pytest.approx(50 - 50 / math.e, abs=1)


def test_a_flood_of_a_week_stays_within_the_bound(clock: Clock) -> None:
    """All kinds together, however many there are."""
    fair, total = FairQuota(100, DAY, clock), 0
    while clock.now < 7 * DAY:
        total += sum(fair.takes(f"kind {n}") for n in range(11))
        clock.now += 60
    assert 600 < total <= 800


def test_there_is_always_room_for_one(clock: Clock) -> None:
    fair = FairQuota(0.01, DAY, clock)
    assert fair.takes("rare")
    assert not fair.takes("rare")
