"""New markers for each app and minute."""

import pytest

from app.errors import DependencyUnavailable, Outage
from app.publish.quota import Quota


def test_an_app_above_its_quota_waits_and_its_neighbour_does_not() -> None:
    now = 0.0
    quota = Quota(60, monotonic=lambda: now)
    for _ in range(60):
        quota.spend("shop")
    with pytest.raises(DependencyUnavailable) as fault:
        quota.spend("shop")
    assert fault.value.outage is Outage.QUOTA
    quota.spend("bank")
    now = 2.0
    quota.spend("shop")
    quota.spend("shop")
    with pytest.raises(DependencyUnavailable):
        quota.spend("shop")


def test_a_quota_does_not_pile_up_while_nothing_comes() -> None:
    now = 0.0
    quota = Quota(10, monotonic=lambda: now)
    quota.spend("shop")
    now = 86400.0
    for _ in range(10):
        quota.spend("shop")
    with pytest.raises(DependencyUnavailable):
        quota.spend("shop")


def test_what_makes_no_new_marker_is_given_back() -> None:
    quota = Quota(1, monotonic=lambda: 0.0)
    for _ in range(3):
        quota.spend("shop")
        quota.give_back("shop")
    quota.spend("shop")
    with pytest.raises(DependencyUnavailable):
        quota.spend("shop")
