"""What is usual of a provider, and how far its clock is off."""

import pytest

from app.telemetry.metrics.counters import ClockDifference
from app.telemetry.metrics.quiet_periods import DAY, QuietPeriods

NOW = 1_795_283_041.0
HOUR = 3600.0


def heard(*times: float) -> QuietPeriods:
    silence = QuietPeriods()
    for at in times:
        silence.add(at)
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
        silence.add(NOW + day * DAY + HOUR)
    assert silence.longest_gap(NOW + 12 * DAY) == DAY


def test_one_that_is_told_late_changes_nothing() -> None:
    silence = heard(NOW, NOW + 9 * HOUR, NOW + 4 * HOUR)
    assert silence.longest_gap(NOW + DAY) == 9 * HOUR
    assert silence.last == NOW + 9 * HOUR


def clock_of(*differences: float, at: float = NOW) -> ClockDifference:
    clock = ClockDifference()
    for difference in differences:
        clock.add((at, difference))
    return clock


@pytest.mark.parametrize("wild", [-200.0, 900.0, -1e11])
def test_one_token_with_a_wild_iat_moves_nothing(wild: float) -> None:
    found = clock_of(0.4, wild, 0.6).median(NOW)
    assert found is not None
    assert 0.4 <= found <= 0.6


def test_a_clock_that_is_wrong_is_seen_by_all_of_its_tokens() -> None:
    assert clock_of(-20.5, -20.1, -20.8).median(NOW) == -20.5


def test_of_fewer_than_three_tokens_nothing_is_said() -> None:
    assert clock_of(0.5, 0.5).median(NOW) is None


def test_a_difference_is_forgotten_after_an_hour() -> None:
    clock = clock_of(-2.5, -2.5, -2.5)
    assert clock.median(NOW + 3599) == -2.5
    assert clock.median(NOW + 3601) is None


def test_a_clock_that_was_set_right_is_believed_after_five_tokens() -> None:
    assert clock_of(*[-20.0] * 9, *[0.5] * 4).median(NOW) == -20.0
    assert clock_of(*[-20.0] * 9, *[0.5] * 5).median(NOW) == 0.5


def test_a_clock_of_ours_that_jumps_back_forgets() -> None:
    clock = clock_of(1.0, 1.0, 1.0)
    assert clock.median(NOW - 500) is None
