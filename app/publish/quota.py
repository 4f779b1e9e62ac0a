"""A bound for what one relying app may add to the Redis that all of them share."""

import time
from collections.abc import Callable

from app.errors import DependencyUnavailable, Outage


class Quota:
    """New markers for each relying app: ``per_minute`` at once, and as many in each minute.

    A stolen signing key, or a provider that has lost its mind, could otherwise fill the Redis
    that all apps share. ``monotonic`` is in seconds.
    """

    def __init__(self, per_minute: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = float(per_minute)
        self._monotonic = monotonic
        self._left: dict[str, tuple[float, float]] = {}
        """For each app: how many are left, and when that was so."""

    def spend(self, app: str) -> None:
        """Take one. Raises `DependencyUnavailable` with `QUOTA` where none is left.

        Call it before each write; `give_back` what turns out to need no new marker. What fails
        stays spent: that errs on the side of Redis.
        """
        now = self._monotonic()
        left, at = self._left.get(app, (self._most, now))
        left += (now - at) * self._most / 60
        if left > self._most:
            left = self._most
        if left < 1:
            raise DependencyUnavailable(Outage.QUOTA)
        self._left[app] = (left - 1, now)

    def give_back(self, app: str) -> None:
        """The write has made no new marker."""
        left, at = self._left[app]
        self._left[app] = (min(self._most, left + 1), at)
