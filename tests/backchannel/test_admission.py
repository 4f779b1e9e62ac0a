"""Admission: the fair share of each issuer, and the memory of incomplete bodies."""

import contextlib

import pytest

from app.backchannel.admission import BodyBytes, FairSemaphore
from app.errors import DependencyUnavailable, Outage
from app.server.connection_limits import OWN_BODY_BYTES


def take_all(stack: contextlib.ExitStack, places: FairSemaphore, issuer: str) -> int:
    """Take places until there are none left. Returns how many there were."""
    for taken in range(10_000):
        try:
            stack.enter_context(places.place(issuer))
        except DependencyUnavailable:
            return taken
    raise AssertionError("no limit")


def test_one_issuer_alone_gets_half() -> None:
    with contextlib.ExitStack() as stack:
        assert take_all(stack, FairSemaphore(100), "greedy") == 50


def test_two_greedy_issuers_get_a_third_each() -> None:
    places = FairSemaphore(90)
    taken = {"first": 0, "second": 0}
    with contextlib.ExitStack() as stack:
        for issuer in ["first", "second"] * 50:
            with contextlib.suppress(DependencyUnavailable):
                stack.enter_context(places.place(issuer))
                taken[issuer] += 1
    assert taken == {"first": 30, "second": 30}


@pytest.mark.parametrize("greedy", [1, 2, 5, 10])
def test_there_is_room_for_another_issuer_beside_greedy_ones(greedy: int) -> None:
    places = FairSemaphore(2048)
    with contextlib.ExitStack() as stack:
        for n in range(greedy):
            take_all(stack, places, f"greedy-{n}")
        assert take_all(stack, places, "other") >= 1


def test_a_place_is_released_after_an_error() -> None:
    places = FairSemaphore(2)
    for _ in range(10):
        with pytest.raises(KeyError), places.place("one"):
            raise KeyError
    with places.place("one"):
        pass


def test_large_bodies_share_a_limit_and_small_ones_are_always_read() -> None:
    """Bodies of a real size are read while a large one holds all shared memory."""
    bodies = BodyBytes(max_bytes=1000)
    with bodies.reading() as large:
        large(OWN_BODY_BYTES + 1000)
        with bodies.reading() as small:
            small(OWN_BODY_BYTES)
            with pytest.raises(DependencyUnavailable) as fault:
                small(OWN_BODY_BYTES + 1)
            assert fault.value.outage is Outage.OVERLOADED
    with bodies.reading() as later:
        later(OWN_BODY_BYTES + 600)
        later(OWN_BODY_BYTES + 1000)
