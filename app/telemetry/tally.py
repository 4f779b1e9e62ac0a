"""Counts what happens, where it happens. On a token's path: some hundred nanoseconds a number."""

import math
import time
from collections.abc import Callable
from typing import TypeGuard

from app.publish.store import NEW_MARKER
from app.revocation import Revocation
from app.settings import Settings
from backchannel_logout.receipts import Receipt

from .cells import FAILED, GOOD, KEPT, KNOWN, LEFT_OUT, NEW, STORE, VERIFY, Cells
from .metrics import (
    ANSWERS,
    APP_RECEIPTS,
    JWKS_FETCHES,
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

_HALF_WINDOW = 1800.0
"""Seconds; `ClockDifference` looks back for one to two of them."""


class ClockDifference:
    """The smallest time from ``iat`` to arrival that was seen in the last half hour to hour.

    The smallest, for what a token takes on its way is only ever added: the best estimate of how far
    the provider's clock is behind ours, and negative where it is ahead. ``iat`` counts whole
    seconds, so it may be up to one too large.
    """

    def __init__(self) -> None:
        self._since = float("-inf")
        self._now = self._before = math.inf

    def seen(self, difference: float, arrived_at: float) -> None:
        """One token whose signature is good; seconds, and epoch seconds."""
        if not 0 <= arrived_at - self._since < _HALF_WINDOW:
            self._turn(arrived_at)
        if difference < self._now:
            self._now = difference

    def smallest(self, now: float) -> float | None:
        """In seconds; None where no token came lately."""
        if not 0 <= now - self._since < _HALF_WINDOW:
            self._turn(now)
        found = min(self._now, self._before)
        return None if math.isinf(found) else found

    def _turn(self, now: float) -> None:
        lately = 0 <= now - self._since < 2 * _HALF_WINDOW
        self._before = self._now if lately else math.inf
        self._now, self._since = math.inf, now


class Tally:
    """One process's counters. ``clock`` is epoch seconds."""

    def __init__(
        self, settings: Settings, cells: Cells, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._tokens = cells.counters(TOKENS)
        self._verify = cells.histogram(STAGES, VERIFY)
        self._store = cells.histogram(STAGES, STORE)
        self._answer = cells.histogram(ANSWERS)
        self._markers = cells.counters(MARKERS)
        self._settled = cells.counters(SETTLED)
        self._fetches = cells.counters(JWKS_FETCHES)
        self._receipts = cells.counters(APP_RECEIPTS)
        self.made_room = cells.counter(MADE_ROOM)
        self.recovered = cells.counter(RECOVERED)
        self.refusals_kept = cells.counter(REFUSALS, KEPT)
        self.refusals_left_out = cells.counter(REFUSALS, LEFT_OUT)
        names = [issuer.issuer for issuer in settings.issuers]
        self._turned_away = {name: cells.counter(TURNED_AWAY, name) for name in names}
        self._to_marker = {name: cells.histogram(TO_MARKER, name) for name in names}
        self.clocks = {name: ClockDifference() for name in names}
        apps = {one.app for issuer in settings.issuers for one in issuer.clients}
        self._teardown = {app: cells.histogram(TEARDOWN, app) for app in apps}

    # -- a token ------------------------------------------------------------------------------

    def token(
        self,
        issuer: str | None,
        clients: tuple[str, ...],
        outcome: str,
        reason: str | None,
        *,
        seconds: float,
        verified: float | None,
    ) -> None:
        """One answer, ``seconds`` after the token came; a valid token was ``verified`` after so
        many of them."""
        client = clients[0] if clients else NOTHING
        count = self._tokens.get((issuer or NOTHING, client, outcome, reason or NOTHING))
        if count is not None:  # each is there; but nobody's logout may fail for a number
            count()
        self._answer(seconds)
        if verified is not None:
            self._verify(verified)
            self._store(seconds - verified)

    def signed(self, issuer: str, iat: object, arrived_at: float) -> None:
        """A token with a good signature has come, whatever becomes of it. Epoch seconds."""
        if _is_number(iat):
            self.clocks[issuer].seen(arrived_at - iat, arrived_at)

    def written(self, revocation: Revocation, answer: int) -> None:
        """Redis has taken a revocation, from a request, parking or the journal; ``answer`` is the
        script's."""
        if not answer:
            return
        heading = revocation.heading
        self._markers[heading.app, NEW if answer == NEW_MARKER else KNOWN]()
        observe = self._to_marker.get(heading.issuer_names[0])
        if observe is not None and revocation.once is not None:
            observe(max(0.0, self._clock() - revocation.cutoff))

    # -- everything else ------------------------------------------------------------------------

    def parked_settled(self, issuer: str, outcome: str) -> None:
        """A parked token has left."""
        if (count := self._settled.get((issuer, outcome))) is not None:
            count()

    def parked_turned_away(self, issuer: str) -> None:
        """There was no room to park a token."""
        self._turned_away[issuer]()

    def keys_fetched(self, issuer: str, error: str | None) -> None:
        """A fetch of an issuer's keys has ended."""
        self._fetches[issuer, GOOD if error is None else FAILED]()

    def receipt(self, app: str, receipt: Receipt) -> None:
        """A listener of the app says how an event fared. Clocks differ: never below 0."""
        self._receipts[app, receipt.outcome.value]()
        if receipt.outcome == "done" and math.isfinite(receipt.seconds):
            self._teardown[app](max(0.0, receipt.seconds))


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
