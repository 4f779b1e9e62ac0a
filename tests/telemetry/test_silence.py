"""What is usual of a provider, and how far its clock is off."""

import pytest

from app.telemetry.silence import DAY, Silence
from app.telemetry.tally import ClockDifference

NOW = 1_795_283_041.0
HOUR = 3600.0


def heard(*times: float) -> Silence:
    silence = Silence()
    for at in times:
        silence.heard(at)
    return silence


def test_the_longest_gap_of_the_last_days_is_what_is_usual() -> None:
    silence = heard(NOW, NOW + HOUR, NOW + 11 * HOUR, NOW + 12 * HOUR)
    assert silence.longest_gap(NOW + DAY) == 10 * HOUR
    assert silence.last == NOW + 12 * HOUR


def test_on_its_first_day_nothing_is_usual() -> None:
    assert heard(NOW, NOW + HOUR).longest_gap(NOW + DAY - 1) is None
    assert heard().longest_gap(NOW) is None


def test_the_present_silence_is_not_usual_yet() -> None:
    silence = heard(NOW, NOW + HOUR)
    assert silence.longest_gap(NOW + 5 * DAY) == HOUR


def test_a_gap_is_forgotten_after_a_week() -> None:
    silence = heard(NOW, NOW + 2 * DAY)
    for day in range(2, 12):
        silence.heard(NOW + day * DAY + HOUR)
    assert silence.longest_gap(NOW + 12 * DAY) == DAY


def test_one_that_is_told_late_changes_nothing() -> None:
    silence = heard(NOW, NOW + 9 * HOUR, NOW + 4 * HOUR)
    assert silence.longest_gap(NOW + DAY) == 9 * HOUR
    assert silence.last == NOW + 9 * HOUR


def test_the_smallest_difference_tells_of_the_clock_and_not_of_the_way() -> None:
    clock = ClockDifference()
    for difference in (3.0, -2.5, 40.0):
        clock.seen(difference, NOW)
    assert clock.smallest(NOW) == -2.5


@pytest.mark.parametrize(("later", "left"), [(1801.0, -2.5), (2 * 3600.0 + 1, None)])
def test_a_difference_is_forgotten_after_an_hour(later: float, left: float | None) -> None:
    clock = ClockDifference()
    clock.seen(-2.5, NOW)
    assert clock.smallest(NOW + later) == left


def test_a_clock_that_was_set_right_is_believed_after_an_hour() -> None:
    clock = ClockDifference()
    clock.seen(-20.0, NOW)
    for minute in range(0, 70, 5):
        clock.seen(0.5, NOW + 60 * minute)
    assert clock.smallest(NOW + 70 * 60) == 0.5


def test_a_clock_of_ours_that_jumps_back_forgets() -> None:
    clock = ClockDifference()
    clock.seen(1.0, NOW)
    clock.seen(2.0, NOW - 500)
    assert clock.smallest(NOW - 500) == 2.0
