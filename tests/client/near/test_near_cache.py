"""How many sessions a near cache keeps, and which are dropped."""

from backchannel_logout import Event, EventKind, Session
from backchannel_logout.contract.session import SESSION_MEMBERS
from backchannel_logout.near.cache import NearCache

ISS = "https://op.example"


def session(number: int) -> Session:
    return Session(ISS, 1_000, sid=f"s{number}", sub="alice")


def filled_cache(max_sessions: int, count: int) -> NearCache:
    cache = NearCache(max_sessions, max_stale=5, clock=lambda: 0.0)
    cache.contact(0.0)
    for number in range(count):
        cache.put(session(number), cache.fence(), 60)
    return cache


def test_one_more_than_it_may_keep_is_one_less_of_the_others() -> None:
    cache = filled_cache(max_sessions=4, count=5)
    assert cache.size == 4
    assert [cache.alive(session(number)) for number in range(5)] == [False, *[True] * 4]


def test_the_last_used_session_stays() -> None:
    cache = filled_cache(max_sessions=4, count=4)
    assert cache.alive(session(0))
    cache.put(session(4), cache.fence(), 60)
    assert [cache.alive(session(number)) for number in range(5)] == [True, False, True, True, True]


def test_a_used_session_stays_when_others_are_added_to_a_half_full_cache() -> None:
    cache = filled_cache(max_sessions=8, count=1)
    for number in range(1, 100):
        assert cache.alive(session(0)), f"gone when {number} had come"
        cache.put(session(number), cache.fence(), 60)
    assert cache.size == 8


def test_the_answer_is_for_this_time_of_sign_in_alone() -> None:
    """Of two sessions of one login, the one with an earlier sign-in may be dead."""
    cache = filled_cache(max_sessions=4, count=0)
    later, earlier = (
        Session(ISS, 1_000, sid="s1", sub="alice", auth_time=auth_time) for auth_time in (990, 400)
    )
    cache.put(later, cache.fence(), 60)
    assert cache.alive(later)
    for other in (earlier, session(1)):
        assert not cache.alive(other)
        assert not cache.alive({name: getattr(other, name) for name in SESSION_MEMBERS})
    stored = {name: getattr(later, name) for name in SESSION_MEMBERS}
    assert cache.alive(stored)
    cache.put(session(1), cache.fence(), 60)
    assert cache.alive({"iss": ISS, "sid": "s1", "sub": "alice", "login_at": 1_000})
    logout = Event(
        kind=EventKind.SESSION, iss=ISS, sid="s1", cutoff=900, app="shop", source="admin",
        received_at=900.0,
    )  # fmt: skip
    cache.apply([logout])
    assert cache.size == 0
