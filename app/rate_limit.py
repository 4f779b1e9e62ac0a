"""Limits how often something may happen, with token buckets.

A bucket allows a burst and then a steady rate, and needs two numbers of memory. Its numbers stay
beside the code that uses it.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial


class TokenBucket:
    """Holds up to ``burst`` tokens and gains ``rate`` per second. ``monotonic`` is in seconds."""

    __slots__ = ("_at", "_burst", "_monotonic", "_rate", "_tokens")

    def __init__(
        self, burst: float, rate: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._rate = rate
        self._monotonic = monotonic
        self._tokens = burst
        self._at = monotonic()

    def take(self) -> bool:
        """Take a token if there is one."""
        now = self._monotonic()
        tokens = self._tokens + (now - self._at) * self._rate
        if tokens > self._burst:
            tokens = self._burst
        self._at = now
        if tokens < 1:
            self._tokens = tokens
            return False
        self._tokens = tokens - 1
        return True

    def holds(self, tokens: int) -> bool:
        """Whether it has this many now."""
        return self._tokens + (self._monotonic() - self._at) * self._rate >= tokens

    def give_back(self) -> None:
        """Return a token that was not needed."""
        self._tokens = min(self._burst, self._tokens + 1)

    @property
    def wait_seconds(self) -> float:
        """Seconds until the next token, after a `take` that failed."""
        return max(0.0, (1 - self._tokens) / self._rate)


class TokenBuckets:
    """A bucket per key, for the ``max_keys`` that were used last: a forgotten key starts full."""

    def __init__(
        self,
        burst: float,
        rate: float,
        *,
        max_keys: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._new_bucket = partial(TokenBucket, burst, rate, monotonic)
        self._max_keys = max_keys
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def __getitem__(self, key: Hashable) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = self._new_bucket()
            if len(self._buckets) > self._max_keys:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket
