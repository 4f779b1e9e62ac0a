"""How often a user, and a caller, may ask: buckets that fill with time. Bounded memory.

For each process. Behind each call stand calls of the provider's API, whose own limits count for
all users together.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from app.web.errors import ApiFault

# A page that is opened, looked at each second while something ends, and reloaded.
USER_BURST, USER_RATE = 60, 2.0

# A hundred sessions are ended by one request; nobody clicks faster than that.
END_BURST, END_RATE = 20, 0.2

# An app with many users. Auth0's Management API has 50 a second for a large tenant.
CALLER_BURST, CALLER_RATE = 500, 50.0

# Users that are remembered; who is forgotten begins with a full bucket.
MOST_KEYS = 10_000


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class RequestLimits:
    """``clock`` is a monotonic one, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, ...], _Bucket] = OrderedDict()

    def ask(self, caller: str, user: tuple[str, str]) -> None:
        """Count a request. Raises `ApiFault` (429)."""
        self._take(("user", *user), USER_BURST, USER_RATE)
        self._take(("caller", caller), CALLER_BURST, CALLER_RATE)

    def end(self, user: tuple[str, str]) -> None:
        """Count one that ends something, beside `ask`. Raises `ApiFault` (429)."""
        self._take(("end", *user), END_BURST, END_RATE)

    def _take(self, key: tuple[str, ...], burst: int, rate: float) -> None:
        now = self._clock()
        bucket = self._buckets.pop(key, None) or _Bucket(burst, now)
        bucket.left = min(burst, bucket.left + (now - bucket.at) * rate)
        bucket.at = now
        self._buckets[key] = bucket
        if len(self._buckets) > MOST_KEYS:
            self._buckets.popitem(last=False)
        if bucket.left < 1:
            wait = (1 - bucket.left) / rate
            raise ApiFault(429, "too_many_requests", "too many requests; wait", retry_after=wait)
        bucket.left -= 1
