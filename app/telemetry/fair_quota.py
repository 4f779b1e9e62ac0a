"""Who may add to something of which there is little. Bookkeeping only."""

import math
import time
from collections.abc import Callable, Hashable


class FairQuota:
    """Takes ``most`` at once, and what has been forgotten since; nobody more than is left.

    What was taken is forgotten by and by, with the time constant ``seconds``: in R seconds at most
    ``most * (1 + R / seconds)`` are taken. A kind gets one more only while it has fewer than are
    left, so that one that floods has half, and the others find room: as `Places` of
    `app.backchannel.admission`, which does not forget.
    """

    def __init__(
        self, most: float, seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = max(2.0, most)
        self._seconds = seconds
        self._monotonic = monotonic
        self._own: dict[Hashable, tuple[float, float]] = {}
        """How much of each kind is not forgotten, as of when. The settings bound the kinds."""
        self._all = 0.0
        self._at = monotonic()

    def takes(self, kind: Hashable) -> bool:
        """Take one of this kind; or say no."""
        now = self._monotonic()
        taken = self._faded(self._all, self._at, now)
        own = self._faded(*self._own.get(kind, (0.0, now)), now)
        if own + 1 > self._most - taken:
            return False
        self._own[kind] = own + 1, now
        self._all, self._at = taken + 1, now
        return True

    def _faded(self, taken: float, at: float, now: float) -> float:
        return taken * math.exp((at - now) / self._seconds)
