"""Shares a limited resource fairly between kinds of requests. Pure bookkeeping."""

import math
import time
from collections.abc import Callable, Hashable


class FairQuota:
    """Admits ``max_amount`` at once, and then as much as has decayed.

    The used amount decays with the time constant ``seconds``: in R seconds at most
    ``max_amount * (1 + R / seconds)`` are admitted. A kind gets one more only while it has used
    less than is left, so one kind that floods uses half and leaves room for the others. The rule is
    that of `app.backchannel.admission.FairSemaphore`, where nothing decays.
    """

    def __init__(
        self, max_amount: float, seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_amount = max(2.0, max_amount)
        self._seconds = seconds
        self._monotonic = monotonic
        self._own: dict[Hashable, tuple[float, float]] = {}
        """The used amount of each kind, as of a time. The settings bound the number of kinds."""
        self._all = 0.0
        self._at = monotonic()

    def takes(self, kind: Hashable) -> bool:
        """Admit one of this kind, or return False."""
        now = self._monotonic()
        used = self._decayed(self._all, self._at, now)
        own = self._decayed(*self._own.get(kind, (0.0, now)), now)
        if own + 1 > self._max_amount - used:
            return False
        self._own[kind] = own + 1, now
        self._all, self._at = used + 1, now
        return True

    def _decayed(self, amount: float, at: float, now: float) -> float:
        return amount * math.exp((at - now) / self._seconds)
