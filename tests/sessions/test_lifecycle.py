"""When a provider's session ends: idle limit, absolute limit, and the provider's own report."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sessions.lifecycle import (
    SessionState,
    ends_at,
    is_active,
    outlive_markers,
    state,
    with_lifetimes,
)
from app.sessions.provider_session import Lifetimes, ProviderSession

DAY = 86400.0
TIMES = st.none() | st.floats(0, 4e9)


def session(**members: Any) -> ProviderSession:
    return ProviderSession(id="s1", issuer="https://op.example/", user_id="alice", **members)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, SessionState.ACTIVE),
        ({"active": False}, SessionState.ENDED),
        ({"idle_expires_at": 1001}, SessionState.ACTIVE),
        ({"idle_expires_at": 1000}, SessionState.IDLE),
        ({"expires_at": 1001}, SessionState.ACTIVE),
        ({"expires_at": 1000}, SessionState.EXPIRED),
        ({"idle_expires_at": 900, "expires_at": 950}, SessionState.IDLE),
        ({"idle_expires_at": 950, "expires_at": 900}, SessionState.EXPIRED),
        ({"idle_expires_at": 900, "expires_at": 2000}, SessionState.IDLE),
        ({"active": False, "expires_at": 900}, SessionState.EXPIRED),
    ],
)
def test_a_session_ends_at_the_limit_that_passes_first(
    members: dict[str, Any], expected: SessionState
) -> None:
    assert state(session(**members), 1000) is expected
    assert is_active(session(**members), 1000) is (expected is SessionState.ACTIVE)


def test_a_session_that_the_provider_does_not_know_has_ended() -> None:
    assert state(None, 1000) is SessionState.ENDED
    assert not is_active(None, 1000)


@given(TIMES, TIMES, st.floats(0, 4e9))
def test_a_session_is_active_exactly_until_its_end(
    idle: float | None, absolute: float | None, now: float
) -> None:
    one = session(idle_expires_at=idle, expires_at=absolute)
    end = ends_at(one)
    assert is_active(one, now) is (end is None or now < end)


def test_limits_that_the_provider_does_not_report_follow_from_its_lifetimes() -> None:
    limits = Lifetimes(idle=1800, absolute=36000, source="realm")
    found = with_lifetimes(session(created_at=1000, last_seen_at=5000), limits)
    assert (found.idle_expires_at, found.expires_at) == (6800, 37000)


def test_an_end_reported_by_the_provider_overrides_its_limits() -> None:
    limits = Lifetimes(idle=1800, absolute=36000, source="realm")
    found = with_lifetimes(session(created_at=1000, idle_expires_at=7, expires_at=8), limits)
    assert (found.idle_expires_at, found.expires_at) == (7, 8)


def test_an_end_without_a_known_beginning_or_limit_stays_unknown() -> None:
    limits = Lifetimes(idle=1800, absolute=None, source="realm")
    assert ends_at(with_lifetimes(session(), limits)) is None
    only_created = with_lifetimes(session(created_at=1000), limits)
    assert (only_created.idle_expires_at, only_created.expires_at) == (2800, None)


@pytest.mark.parametrize(
    ("absolute", "max_session_age", "expected"),
    [(30 * DAY, 30 * DAY, False), (365 * DAY, 30 * DAY, True), (None, 3650 * DAY, True)],
)
def test_markers_expire_first_if_the_provider_s_limit_is_longer_or_missing(
    absolute: float | None, max_session_age: float, expected: bool
) -> None:
    limits = Lifetimes(idle=None, absolute=absolute, source="documentation")
    assert outlive_markers(limits, max_session_age) is expected
