"""Counts events where they happen, at about 100 ns each on a token's path."""

import math
import time
from collections import deque
from typing import TypeGuard

from app.config.model import Settings
from app.revocation import Revocation
from app.store.store import NEW_MARKER
from app.telemetry.metrics.definitions import (
    ANSWERS,
    APP_RECEIPTS,
    EMPTIED,
    JWKS_FETCHES,
    LOG_LINES,
    MADE_ROOM,
    MARKERS,
    NOTHING,
    RECOVERED,
    REFUSALS,
    RELOADS,
    SETTLED,
    STAGES,
    TEARDOWN,
    TO_MARKER,
    TOKENS,
    TURNED_AWAY,
)
from app.telemetry.metrics.registry import Registry, Series
from backchannel_logout.contract.receipts import Receipt

_CLOCK_SECONDS = 3600.0
"""The age of tokens that `ClockDifference` uses."""

_CLOCK_TOKENS = 9
"""How many tokens it uses: four outliers do not move the median."""

_MIN_CLOCK_TOKENS = 3
"""Of fewer tokens, one outlier would decide."""


class ClockDifference:
    """The median time from ``iat`` to arrival of the last few tokens of the last hour.

    Positive if the provider's clock is behind ours, negative if it is ahead. Includes the time in
    transit, and up to a second because ``iat`` counts whole seconds.
    """

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque(maxlen=_CLOCK_TOKENS)
        self.add = self._recent.append
        """Takes the arrival of a validly signed token in epoch seconds, and its difference."""

    def median(self, now: float) -> float | None:
        """In seconds; None for too few recent tokens."""
        recent = sorted(
            difference
            for arrived_at, difference in self._recent
            if 0 <= now - arrived_at < _CLOCK_SECONDS
        )
        return recent[len(recent) // 2] if len(recent) >= _MIN_CLOCK_TOKENS else None


class Counters:
    """Counts into `registry`."""

    def __init__(self, settings: Settings) -> None:
        self.registry = registry = Registry(settings)
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
        self._reloads = registry.counters(RELOADS)
        self.emptied = registry.counter(EMPTIED).inc
        self.refusals_kept = registry.counter(REFUSALS, "kept").inc
        self.refusals_left_out = registry.counter(REFUSALS, "left_out").inc
        self.log_unread = registry.counter(LOG_LINES, "unread").inc
        self.log_limited = registry.counter(LOG_LINES, "limited").inc
        self._to_marker = registry.histograms(TO_MARKER)
        self._teardown = registry.histograms(TEARDOWN)
        self._turned_away: dict[str, Series] = {}
        self.clocks: dict[str, ClockDifference] = {}
        self._serve(settings)

    def serve(self, settings: Settings) -> None:
        """Count for these settings, too."""
        self.registry.serve(settings)
        self._serve(settings)

    def _serve(self, settings: Settings) -> None:
        for issuer in settings.issuers:
            name = issuer.issuer
            self._turned_away[name] = self.registry.counter(TURNED_AWAY, name)
            self.clocks.setdefault(name, ClockDifference())

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
        """Count one answer. ``seconds`` and ``validated_after`` are since the arrival; the latter
        is None for invalid tokens."""
        client = clients[0] if clients else NOTHING
        try:  # noqa: SIM105 (`contextlib.suppress` takes as long as all the rest)
            self._tokens[issuer or NOTHING, client, outcome, reason or NOTHING].inc()
        except KeyError:
            pass  # never; but no logout may fail because of a counter
        self._answer(seconds)
        if validated_after is not None:
            self._verify(validated_after)
            self._store(seconds - validated_after)

    def signed(self, issuer: str, iat: object, arrived_at: float) -> None:
        """A validly signed token has arrived, whatever its result. Epoch seconds."""
        if _is_number(iat):
            self.clocks[issuer].add((arrived_at, arrived_at - iat))

    def written(self, revocation: Revocation, answer: int) -> None:
        """Redis has stored a revocation of a request, of parking or of the journal; ``answer`` is
        the script's."""
        if not answer:
            return
        heading = revocation.heading
        self._markers[heading.app, "new" if answer == NEW_MARKER else "known"].inc()
        if revocation.once is not None and heading.issuer_names[0] in self.clocks:
            seconds = time.time() - revocation.cutoff
            self._to_marker[heading.issuer_names[:1]].observe(seconds if seconds > 0 else 0.0)

    def reloaded(self, outcome: str) -> None:
        """The settings were read again."""
        self._reloads[outcome,].inc()

    # -- everything else ------------------------------------------------------------------------

    def parked_settled(self, issuer: str, outcome: str) -> None:
        """A parked token has left the queue."""
        if (count := self._settled.get((issuer, outcome))) is not None:
            count.inc()

    def parked_turned_away(self, issuer: str) -> None:
        """A token was not parked for lack of room."""
        self._turned_away[issuer].inc()

    def keys_fetched(self, issuer: str, error: str | None) -> None:
        """A fetch of an issuer's keys has ended."""
        self._fetches[issuer, "good" if error is None else "failed"].inc()

    def receipt(self, app: str, receipt: Receipt) -> None:
        """A listener of the app reports the result of an event. Clocks differ: never below 0."""
        self._receipts[app, receipt.outcome.value].inc()
        if receipt.outcome == "done" and math.isfinite(receipt.seconds):
            self._teardown[(app,)].observe(max(0.0, receipt.seconds))


_NUMBERS = (int, float)  # a tuple: a union would be built anew for each call


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, _NUMBERS) and not isinstance(value, bool) and abs(value) < 1e12
