"""The usual pauses of a provider, and the difference of its clock."""

import pytest

from app.telemetry.metrics.counters import ClockDifference
from app.telemetry.metrics.quiet_periods import DAY, QuietPeriods

NOW = 1_795_283_041.0
HOUR = 3600.0


def periods_of(*times: float) -> QuietPeriods:
    periods = QuietPeriods()
    for at in times:
        periods.add(at)
    return periods


def test_the_longest_gap_of_the_last_days_is_usual() -> None:
    periods = periods_of(NOW, NOW + HOUR, NOW + 11 * HOUR, NOW + 12 * HOUR)
    assert periods.longest_gap(NOW + DAY) == 10 * HOUR
    assert periods.last == NOW + 12 * HOUR


def test_on_the_first_day_no_gap_is_usual() -> None:
    assert periods_of(NOW, NOW + HOUR).longest_gap(NOW + DAY - 1) is None
    assert periods_of().longest_gap(NOW) is None


def test_the_current_pause_does_not_count() -> None:
    periods = periods_of(NOW, NOW + HOUR)
    assert periods.longest_gap(NOW + 5 * DAY) == HOUR


def test_a_gap_is_forgotten_after_a_week() -> None:
    periods = periods_of(NOW, NOW + 2 * DAY)
    for day in range(2, 12):
        periods.add(NOW + day * DAY + HOUR)
    assert periods.longest_gap(NOW + 12 * DAY) == DAY


def test_a_logout_that_is_read_late_changes_nothing() -> None:
    periods = periods_of(NOW, NOW + 9 * HOUR, NOW + 4 * HOUR)
    assert periods.longest_gap(NOW + DAY) == 9 * HOUR
    assert periods.last == NOW + 9 * HOUR


def clock_of(*differences: float, at: float = NOW) -> ClockDifference:
    clock = ClockDifference()
    for difference in differences:
        clock.add((at, difference))
    return clock


@pytest.mark.parametrize("outlier", [-200.0, 900.0, -1e11])
def test_a_single_outlier_does_not_move_the_median(outlier: float) -> None:
    median = clock_of(0.4, outlier, 0.6).median(NOW)
    assert median is not None
    assert 0.4 <= median <= 0.6


def test_a_wrong_clock_shows_in_the_median() -> None:
    assert clock_of(-20.5, -20.1, -20.8).median(NOW) == -20.5


def test_fewer_than_three_tokens_have_no_median() -> None:
    assert clock_of(0.5, 0.5).median(NOW) is None


def test_a_difference_is_forgotten_after_an_hour() -> None:
    clock = clock_of(-2.5, -2.5, -2.5)
    assert clock.median(NOW + 3599) == -2.5
    assert clock.median(NOW + 3601) is None


def test_a_corrected_clock_shows_after_five_tokens() -> None:
    assert clock_of(*[-20.0] * 9, *[0.5] * 4).median(NOW) == -20.0
    assert clock_of(*[-20.0] * 9, *[0.5] * 5).median(NOW) == 0.5


def test_tokens_from_the_future_of_our_clock_are_ignored() -> None:
    clock = clock_of(1.0, 1.0, 1.0)
    assert clock.median(NOW - 500) is None
