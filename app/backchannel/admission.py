"""Admission: how many tokens are processed at once, and how much memory unfinished bodies take.

    FairSemaphore   places for tokens, with a fair share for each issuer
    BodyBytes       memory of incomplete bodies

Bookkeeping only: nothing here waits. What does not fit is refused with `DependencyUnavailable`,
since the same token may succeed later. For use in one event loop, so nothing is locked.
"""

import contextlib
from collections.abc import Callable, Iterator

from app.errors import DependencyUnavailable, Outage
from app.server.connection_limits import OWN_BODY_BYTES


class FairSemaphore:
    """At most ``max_places`` places. An issuer gets one more only while it has fewer than are free.

    So one issuer alone has at most half, two have a third each, and there is always room for
    another: a flood under one name leaves the other issuers their logouts (the dynamic thresholds
    of Choudhury and Hahne, 1998). Each further greedy issuer takes half of what is left, so 2048
    places are full after eleven.
    """

    def __init__(self, max_places: int) -> None:
        self.max_places = max_places
        self._free = max_places
        self._held: dict[str, int] = {}
        """By issuer."""

    @property
    def in_use(self) -> int:
        """Places that are taken now."""
        return self.max_places - self._free

    @contextlib.contextmanager
    def place(self, issuer: str) -> Iterator[None]:
        """Hold a place while the block runs. Raises like `acquire`."""
        self.acquire(issuer)
        try:
            yield
        finally:
            self.release(issuer)

    def acquire(self, issuer: str) -> None:
        """Take a place. Raises `DependencyUnavailable` with `OVERLOADED`; never waits."""
        held = self._held.get(issuer, 0)
        if held >= self._free:
            raise DependencyUnavailable(Outage.OVERLOADED)
        self._held[issuer] = held + 1
        self._free -= 1

    def release(self, issuer: str) -> None:
        """Give back a place taken with `acquire`."""
        self._free += 1
        self._held[issuer] -= 1


# Shared by larger bodies: 8192 of the largest at once.
SHARED_BODY_BYTES = 64 << 20


class BodyBytes:
    """Memory that incomplete bodies hold together.

    The first `OWN_BODY_BYTES` of each do not count, so that large bodies cannot displace real ones.
    """

    def __init__(self, max_bytes: int = SHARED_BODY_BYTES) -> None:
        self._free = max_bytes

    @contextlib.contextmanager
    def reading(self) -> Iterator[Callable[[int], None]]:
        """Account for one body: call the result with the size so far.

        It raises `DependencyUnavailable` with `OVERLOADED` if there is no room left.
        """
        held = 0

        def grown_to(size: int) -> None:
            nonlocal held
            more = max(0, size - OWN_BODY_BYTES) - held
            if more > self._free:
                raise DependencyUnavailable(Outage.OVERLOADED)
            self._free -= more
            held += more

        try:
            yield grown_to
        finally:
            self._free += held
