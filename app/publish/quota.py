"""Limits the new markers of each relying app.

All apps share one Redis, which a stolen signing key or a provider that repeats itself could
otherwise fill.
"""

import time
from collections.abc import Callable

from app.rate_limit import TokenBucket


class Quota(dict[str, TokenBucket]):
    """A bucket for each app: ``per_minute`` new markers at once, and as many in each minute.

    Take a token before each write, and give it back after one that made no new marker. A failed
    write stays spent, which errs on the side of Redis. The settings bound the number of apps.
    """

    def __init__(self, per_minute: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._per_minute = per_minute
        self._monotonic = monotonic

    def __missing__(self, app: str) -> TokenBucket:
        bucket = self[app] = TokenBucket(self._per_minute, self._per_minute / 60, self._monotonic)
        return bucket
