"""Limits the new markers of each relying app.

All apps share one Redis, which a stolen signing key or a provider that repeats itself could
otherwise fill.
"""

import time
from collections import defaultdict
from collections.abc import Callable

from app.errors import DependencyUnavailable, Outage
from app.rate_limit import TokenBucket


class Quota:
    """Allows each app ``per_minute`` new markers at once, and as many in each minute."""

    def __init__(self, per_minute: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        # The settings bound the apps.
        self._buckets: defaultdict[str, TokenBucket] = defaultdict(
            lambda: TokenBucket(per_minute, per_minute / 60, monotonic)
        )

    def spend(self, app: str) -> None:
        """Take one. Raises `DependencyUnavailable` with `QUOTA` when none is left.

        Call it before each write, and `give_back` after one that made no new marker. A failed
        write stays spent, which errs on the side of Redis.
        """
        if not self._buckets[app].take():
            raise DependencyUnavailable(Outage.QUOTA)

    def give_back(self, app: str) -> None:
        self._buckets[app].give_back()
