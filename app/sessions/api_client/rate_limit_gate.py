"""Pauses all calls to a provider that has answered 429."""

import asyncio
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

from app.sessions.session_provider import FaultKind, ProviderFault

# When the provider does not say how long.
UNKNOWN_PAUSE = 5.0

# Bounds for the provider's value, which can be wrong, as can its clock.
MIN_PAUSE, MAX_PAUSE = 1.0, 300.0

# How long a call waits for the gate: per-second limits open soon, and ending ten sessions succeeds.
# A longer pause is reported to the caller instead.
MAX_WAIT = 2.0


class RateLimitGate:
    """Open until a 429; then closed for as long as the response says.

    ``clock`` returns epoch seconds, ``monotonic`` measures the pause.
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
        """Return when the gate is open. Raises `ProviderFault` (limited) if that takes too long."""
        opens_at = self._opens_at
        if self.left() > MAX_WAIT:
            raise self.fault()
        # In a loop: uvloop counts whole milliseconds, so a sleep can end up to one early.
        while (left := self.left()) > 0:
            if self._opens_at != opens_at:  # another call got a 429 in the meantime
                raise self.fault()
            await asyncio.sleep(left)

    def close(self, headers: Mapping[str, str]) -> None:
        """Close for as long as a 429's headers say. Never opens a closed gate earlier."""
        pause = pause_seconds(headers, self._clock())
        self._opens_at = max(self._opens_at, self._monotonic() + pause)

    def left(self) -> float:
        """Seconds until it opens; 0 when it is open."""
        return max(0.0, self._opens_at - self._monotonic())

    def fault(self) -> ProviderFault:
        return ProviderFault(FaultKind.LIMITED, "http_429", retry_after=self.left())


def pause_seconds(headers: Mapping[str, str], now: float) -> float:
    """How long a 429 asks to wait, within bounds.

    ``Retry-After`` (seconds or a date), else Auth0's ``x-ratelimit-reset`` (epoch seconds).
    """
    header = headers.get("retry-after")
    pause = None if header is None else _retry_after(header.strip(), now)
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
