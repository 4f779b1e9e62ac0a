"""How much is at work at once, and who may add to it. Bookkeeping only: no I/O, no waiting.

    Places      tokens at work, with a fair share for each issuer
    BodyBytes   bodies that are being read

Each says no with `DependencyUnavailable`: the same token may succeed later. Used in one event
loop; nothing here is locked.
"""

import contextlib
from collections.abc import Callable, Iterator

from app.errors import DependencyUnavailable, Outage
from app.server.connection_limits import OWN_BODY_BYTES


class FairSemaphore:
    """At most ``most`` places. An issuer gets one more only while it has fewer than are free.

    So one issuer alone has at most half, two have a third each, and there is room for another:
    whoever floods us under one name leaves the others their logouts (the dynamic thresholds of
    Choudhury and Hahne, 1998). Each hog that comes after the others takes half of what is left,
    so 2048 places are full after eleven.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._free = most
        self._own: dict[str, int] = {}

    @property
    def in_use(self) -> int:
        """How many are taken now."""
        return self.most - self._free

    @contextlib.contextmanager
    def taken(self, issuer: str) -> Iterator[None]:
        """Hold a place. Raises `DependencyUnavailable` with `OVERLOADED` at once, or never."""
        self.take(issuer)
        try:
            yield
        finally:
            self.give_back(issuer)

    def take(self, issuer: str) -> None:
        """`taken`, until `give_back`."""
        own = self._own.get(issuer, 0)
        if own >= self._free:
            raise DependencyUnavailable(Outage.OVERLOADED)
        self._own[issuer] = own + 1
        self._free -= 1

    def give_back(self, issuer: str) -> None:
        """The work that `take` was for has ended."""
        self._free += 1
        self._own[issuer] -= 1


# What larger bodies share: 8192 of the largest at once.
SHARED_BODY_BYTES = 64 << 20


class BodyBytes:
    """The sum of what is held of bodies that are not complete.

    The first `OWN_BODY_BYTES` of each do not count, so that large bodies can not keep out
    real ones.
    """

    def __init__(self, most: int = SHARED_BODY_BYTES) -> None:
        self._free = most

    @contextlib.contextmanager
    def reading(self) -> Iterator[Callable[[int], None]]:
        """Read one body: call what this gives with the size so far.

        That raises `DependencyUnavailable` with `OVERLOADED` where there is no room left.
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
