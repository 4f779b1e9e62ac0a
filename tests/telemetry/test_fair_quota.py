"""Who floods has half, and the others find room: sums, and a clock that the test moves."""

import math

import pytest

from app.telemetry.fair_quota import FairQuota
from tests.support.clock import Clock

DAY = 86400.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


def taken(fair: FairQuota, kind: str, tries: int = 1000) -> int:
    return sum(fair.takes(kind) for _ in range(tries))


def test_who_floods_has_half_and_the_next_half_of_the_rest(clock: Clock) -> None:
    fair = FairQuota(100, DAY, clock)
    assert taken(fair, "flood") == 50
    assert taken(fair, "other") == 25
    assert fair.takes("third")


def test_what_was_taken_is_forgotten_by_and_by(clock: Clock) -> None:
    fair = FairQuota(100, DAY, clock)
    taken(fair, "flood")
    clock.now += DAY
    assert taken(fair, "flood") == pytest.approx(50 - 50 / math.e, abs=1)


def test_a_flood_of_a_week_takes_no_more_than_was_said(clock: Clock) -> None:
    """Of many kinds, too: all of them together."""
    fair, total = FairQuota(100, DAY, clock), 0
    while clock.now < 7 * DAY:
        total += sum(fair.takes(f"kind {n}") for n in range(11))
        clock.now += 60
    assert 600 < total <= 800


def test_there_is_always_room_for_one(clock: Clock) -> None:
    fair = FairQuota(0.01, DAY, clock)
    assert fair.takes("rare")
    assert not fair.takes("rare")
