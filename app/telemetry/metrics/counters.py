"""Counts what happens, where it happens. On a token's path: some hundred nanoseconds a number."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import TypeGuard

from app.config.model import Settings
from app.revocation import Revocation
from app.store.store import NEW_MARKER
from app.telemetry.metrics.definitions import (
    ANSWERS,
    APP_RECEIPTS,
    JWKS_FETCHES,
    LOG_LINES,
    MADE_ROOM,
    MARKERS,
    NOTHING,
    RECOVERED,
    REFUSALS,
    SETTLED,
    STAGES,
    TEARDOWN,
    TO_MARKER,
    TOKENS,
    TURNED_AWAY,
)
from app.telemetry.metrics.registry import Registry
from backchannel_logout.contract.receipts import Receipt

_CLOCK_SECONDS = 3600.0
"""How far back `ClockDifference` looks."""

_CLOCK_TOKENS = 9
"""How many tokens it looks at: four that are wild, or late, do not move it."""

_FEWEST_CLOCK_TOKENS = 3
"""Of fewer than that one that is wild would decide."""

_NUMBERS = (int, float)  # a tuple: a union would be built anew for each question


class ClockDifference:
    """The median time from ``iat`` to arrival of the last few tokens of the last hour.

    How far the provider's clock is behind ours, and negative where it is ahead; what tokens take on
    their way is in it, and up to a second, for ``iat`` counts whole ones.
    """

    def __init__(self) -> None:
        self._lately: deque[tuple[float, float]] = deque(maxlen=_CLOCK_TOKENS)
        self.seen = self._lately.append
        """Takes one token whose signature is good: its arrival in epoch seconds, and seconds."""

    def median(self, now: float) -> float | None:
        """In seconds; None where too few tokens came lately."""
        known = sorted(
            difference
            for arrived_at, difference in self._lately
            if 0 <= now - arrived_at < _CLOCK_SECONDS
        )
        return known[len(known) // 2] if len(known) >= _FEWEST_CLOCK_TOKENS else None


class Counters:
    """Counts into `registry`. ``clock`` is epoch seconds."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self.registry = registry = Registry(settings)
        self._clock = clock
        self._tokens = registry.counters(TOKENS)
        self._verify = registry.histogram(STAGES, "verify").observe
        self._store = registry.histogram(STAGES, "store").observe
        self._answer = registry.histogram(ANSWERS).observe
        self._markers = registry.counters(MARKERS)
        self._settled = registry.counters(SETTLED)
        self._fetches = registry.counters(JWKS_FETCHES)
        self._receipts = registry.counters(APP_RECEIPTS)
        self.made_room = registry.counter(MADE_ROOM).inc
        self.recovered = registry.counter(RECOVERED).inc
        self.refusals_kept = registry.counter(REFUSALS, "kept").inc
        self.refusals_left_out = registry.counter(REFUSALS, "left_out").inc
        self.log_unread = registry.counter(LOG_LINES, "unread").inc
        self.log_limited = registry.counter(LOG_LINES, "limited").inc
        names = [issuer.issuer for issuer in settings.issuers]
        self._turned_away = {name: registry.counter(TURNED_AWAY, name) for name in names}
        self._to_marker = {name: registry.histogram(TO_MARKER, name) for name in names}
        self.clocks = {name: ClockDifference() for name in names}
        apps = {client.app for issuer in settings.issuers for client in issuer.clients}
        self._teardown = {app: registry.histogram(TEARDOWN, app) for app in apps}

    # -- a token ------------------------------------------------------------------------------

    def token(
        self,
        issuer: str | None,
        clients: tuple[str, ...],
        outcome: str,
        reason: str | None,
        *,
        seconds: float,
        validated_after: float | None,
    ) -> None:
        """One answer, ``seconds`` after the token came; a valid token was ``verified`` after so
        many of them."""
        client = clients[0] if clients else NOTHING
        count = self._tokens.get((issuer or NOTHING, client, outcome, reason or NOTHING))
        if count is not None:  # each is there; but nobody's logout may fail for a number
            count.inc()
        self._answer(seconds)
        if validated_after is not None:
            self._verify(validated_after)
            self._store(seconds - validated_after)

    def signed(self, issuer: str, iat: object, arrived_at: float) -> None:
        """A token with a good signature has come, whatever becomes of it. Epoch seconds."""
        if _is_number(iat):
            self.clocks[issuer].seen((arrived_at, arrived_at - iat))

    def written(self, revocation: Revocation, answer: int) -> None:
        """Redis has taken a revocation, from a request, parking or the journal; ``answer`` is the
        script's."""
        if not answer:
            return
        heading = revocation.heading
        self._markers[heading.app, "new" if answer == NEW_MARKER else "known"].inc()
        histogram = self._to_marker.get(heading.issuer_names[0])
        if histogram is not None and revocation.once is not None:
            seconds = self._clock() - revocation.cutoff
            histogram.observe(seconds if seconds > 0 else 0.0)

    # -- everything else ------------------------------------------------------------------------

    def parked_settled(self, issuer: str, outcome: str) -> None:
        """A parked token has left."""
        if (count := self._settled.get((issuer, outcome))) is not None:
            count.inc()

    def parked_turned_away(self, issuer: str) -> None:
        """There was no room to park a token."""
        self._turned_away[issuer].inc()

    def keys_fetched(self, issuer: str, error: str | None) -> None:
        """A fetch of an issuer's keys has ended."""
        self._fetches[issuer, "good" if error is None else "failed"].inc()

    def receipt(self, app: str, receipt: Receipt) -> None:
        """A listener of the app says how an event fared. Clocks differ: never below 0."""
        self._receipts[app, receipt.outcome.value].inc()
        if receipt.outcome == "done" and math.isfinite(receipt.seconds):
            self._teardown[app].observe(max(0.0, receipt.seconds))


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, _NUMBERS) and not isinstance(value, bool) and abs(value) < 1e12
