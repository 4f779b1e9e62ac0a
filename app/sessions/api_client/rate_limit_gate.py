"""When a provider that limits us may be asked again: one gate for all calls to it."""

import asyncio
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

from app.sessions.session_provider import FaultKind, ProviderFault

# Where the provider does not say for how long.
UNKNOWN_PAUSE = 5.0

# What it says may be wrong, or its clock; then an hour's pause would be ours to explain.
MIN_PAUSE, MAX_PAUSE = 1.0, 300.0

# How long a call stands before a closed gate: limits that count by the second open it soon, and
# an end of ten sessions gets through. Who must wait longer is told for how long.
MAX_WAIT = 2.0


class RateLimitGate:
    """Open until an answer says 429; then closed for as long as that says.

    ``clock`` is epoch seconds, ``monotonic`` measures the pause.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._opens_at = float("-inf")

    async def wait(self) -> None:
        """Return when the gate is open. Raises `ProviderFault` (limited) when that takes long."""
        opens_at = self._opens_at
        if self.left() > MAX_WAIT:
            raise self.fault()
        # More than once: uvloop counts whole milliseconds, so that a sleep ends up to one early.
        while (left := self.left()) > 0:
            if self._opens_at != opens_at:  # closed anew meanwhile: somebody else was told so
                raise self.fault()
            await asyncio.sleep(left)

    def close(self, headers: Mapping[str, str]) -> None:
        """Close for as long as the headers of a 429 say. Never opens a closed gate earlier."""
        pause = _pause(headers, self._clock())
        self._opens_at = max(self._opens_at, self._monotonic() + pause)

    def left(self) -> float:
        """Seconds until it opens; 0 when it is open."""
        return max(0.0, self._opens_at - self._monotonic())

    def fault(self) -> ProviderFault:
        return ProviderFault(FaultKind.LIMITED, "http_429", retry_after=self.left())


def _pause(headers: Mapping[str, str], now: float) -> float:
    """``Retry-After`` (seconds or a date), else Auth0's ``x-ratelimit-reset`` (epoch seconds)."""
    told = headers.get("retry-after")
    pause = None if told is None else _retry_after(told.strip(), now)
    if pause is None:
        reset = _number(headers.get("x-ratelimit-reset", "").strip())
        pause = UNKNOWN_PAUSE if reset is None else reset - now
    return min(max(pause, MIN_PAUSE), MAX_PAUSE)


def _retry_after(value: str, now: float) -> float | None:
    seconds = _number(value)
    if seconds is not None:
        return seconds
    try:
        return parsedate_to_datetime(value).timestamp() - now
    except ValueError:
        return None


def _number(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
