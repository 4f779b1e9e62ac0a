"""The number of new markers per app and minute."""

from app.publish.quota import Quota


def test_an_app_above_its_quota_waits_and_its_neighbour_does_not() -> None:
    now = 0.0
    quota = Quota(60, monotonic=lambda: now)
    for _ in range(60):
        assert quota["shop"].take()
    assert not quota["shop"].take()
    assert quota["bank"].take()
    now = 2.0
    assert quota["shop"].take()
    assert quota["shop"].take()
    assert not quota["shop"].take()


def test_an_unused_quota_does_not_accumulate() -> None:
    now = 0.0
    quota = Quota(10, monotonic=lambda: now)
    assert quota["shop"].take()
    now = 86400.0
    for _ in range(10):
        assert quota["shop"].take()
    assert not quota["shop"].take()


def test_a_write_without_a_new_marker_is_refunded() -> None:
    quota = Quota(1, monotonic=lambda: 0.0)
    for _ in range(3):
        assert quota["shop"].take()
        quota["shop"].give_back()
    assert quota["shop"].take()
    assert not quota["shop"].take()
