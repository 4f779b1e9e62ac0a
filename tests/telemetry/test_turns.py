"""Of a large fleet some apps are read at a time: all in turn, those with news more often."""

from app.store.replies import entries_of, pairs_of
from app.telemetry.metrics.turns import Turns


def test_a_small_fleet_has_its_turn_at_once() -> None:
    turns = Turns([f"app-{n}" for n in range(100)])
    assert turns.rounds == 1
    assert len(turns.next()) == len(turns.next()) == 100


def test_every_app_of_a_large_fleet_has_its_turn() -> None:
    apps = [f"app-{n}" for n in range(10_000)]
    turns = Turns(apps)
    seen = [turns.next() for _ in range(turns.rounds)]
    assert {app for turn in seen for app in turn} == set(apps)
    assert max(map(len, seen)) < 700


def test_an_app_with_news_has_the_next_turn_as_well() -> None:
    turns = Turns([f"app-{n}" for n in range(1000)])
    first = turns.next()
    turns.add_news("app-0")
    second = turns.next()
    assert "app-0" in first
    assert second[0] == "app-0"
    assert "app-0" not in turns.next()


def test_replies_of_both_protocols_are_read_alike() -> None:
    assert pairs_of([b"lag", 3, b"pending", 1]) == pairs_of({b"lag": 3, b"pending": 1})
    assert entries_of([[b"1-1", [b"iss", b"a"]], [b"1-2", None]]) == [(b"1-1", {b"iss": b"a"})]
    assert pairs_of(None) == {}
    assert entries_of(None) == []
