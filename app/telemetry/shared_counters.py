"""Where counters and histograms are counted: a row of numbers that may outlive who counts.

One process counts in memory of its own. Of several workers each counts in memory that its parent
holds, too (`new_memory`): a worker that is killed loses nothing of what it had counted, its
successor goes on from there, and no file is left behind. Which number is whose follows from the
settings alone, so parent and worker need not agree on more.
"""

import mmap
import os
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Protocol

from app.config.model import Settings
from app.errors import Outage, Reason
from app.publish.writer import Written
from app.telemetry.canary_found import CanaryCheck
from app.telemetry.metrics import (
    ANSWERS,
    APP_RECEIPTS,
    CANARY_ROW,
    CANARY_SECONDS,
    CANARY_TRIES,
    JWKS_FETCHES,
    LOG_LINES,
    MADE_ROOM,
    MARKERS,
    NOTHING,
    RECOVERED,
    REFUSALS,
    RESTARTS,
    SETTLED,
    STAGES,
    TEARDOWN,
    TO_MARKER,
    TOKENS,
    TURNED_AWAY,
    Metric,
)
from backchannel_logout.contract.receipts import Outcome

_BYTES = 8
"""A number is a double: exact up to 2^53."""

Labels = tuple[str, ...]
Series = tuple[Metric, Labels]

GOOD, FAILED, GIVEN_UP = "good", "failed", "given_up"
NEW, KNOWN = "new", "known"
VERIFY, STORE = "verify", "store"
ANSWER, MARKER, RECEIPT = "answer", "marker", "receipt"
KEPT, LEFT_OUT = "kept", "left_out"
UNREAD, LIMITED = "unread", "limited"


def series_of(settings: Settings) -> Iterator[Series]:
    """Every counter and histogram that these settings can ever count, in a fixed order.

    Each stands at 0 from the start on: of one that appears with its first event, Prometheus can not
    see the increase.
    """
    yield from ((TOKENS, labels) for labels in _tokens(settings))
    yield from ((STAGES, (stage,)) for stage in (VERIFY, STORE))
    yield ANSWERS, ()
    yield MADE_ROOM, ()
    yield RECOVERED, ()
    yield RESTARTS, ()
    yield from ((REFUSALS, (outcome,)) for outcome in (KEPT, LEFT_OUT))
    yield from ((LOG_LINES, (cause,)) for cause in (UNREAD, LIMITED))
    if settings.canary is not None:
        yield from ((CANARY_TRIES, (found,)) for found in CanaryCheck)
        yield CANARY_ROW, ()
        yield from ((CANARY_SECONDS, (stage,)) for stage in (ANSWER, MARKER, RECEIPT))
    for issuer in settings.issuers:
        name = issuer.issuer
        yield TO_MARKER, (name,)
        yield TURNED_AWAY, (name,)
        yield from ((JWKS_FETCHES, (name, outcome)) for outcome in (GOOD, FAILED))
        settled = (*Written, "refused", FAILED, GIVEN_UP)
        yield from ((SETTLED, (name, outcome)) for outcome in settled)
    for app in sorted({one.app for issuer in settings.issuers for one in issuer.clients}):
        yield from ((MARKERS, (app, marker)) for marker in (NEW, KNOWN))
        yield from ((APP_RECEIPTS, (app, outcome)) for outcome in Outcome)
        yield TEARDOWN, (app,)


def _tokens(settings: Settings) -> Iterator[Labels]:
    """Labels of `TOKENS`. The client is known from `aud` on, so that no refusal has one; without
    an issuer there is only what can be said before it is known."""
    no_issuer = (Outage.OVERLOADED, Outage.DEADLINE, Outage.INTERNAL)
    yield from ((NOTHING, NOTHING, "refused", reason) for reason in Reason)
    yield from ((NOTHING, NOTHING, "unavailable", outage) for outage in no_issuer)
    yield NOTHING, NOTHING, "disconnected", NOTHING
    for issuer in settings.issuers:
        name = issuer.issuer
        yield from ((name, NOTHING, "refused", reason) for reason in Reason)
        clients = [NOTHING, *(one.client_id for one in issuer.clients)]
        for client, outage in product(clients, Outage):
            yield name, client, "unavailable", outage
        for client, outcome in product(clients[1:], Written):
            yield name, client, outcome, NOTHING


class Count(Protocol):
    """Adds to one counter."""

    def __call__(self, by: int = 1) -> None: ...


class Cells:
    """The numbers of one process. ``memory`` is shared with a parent; None: it is our own."""

    def __init__(self, settings: Settings, memory: int | None = None) -> None:
        self._places: dict[tuple[str, Labels], int] = {}
        size = 0
        self._series: list[tuple[Metric, Labels, int]] = []
        for metric, labels in series_of(settings):
            self._places[metric.name, tuple(map(str, labels))] = size
            self._series.append((metric, labels, size))
            # A histogram: what fell into each bucket, what was beyond the last, and the sum.
            size += len(metric.buckets) + 2 if metric.buckets else 1
        if memory is None:
            self._numbers = memoryview(bytearray(size * _BYTES)).cast("d")
        else:
            os.ftruncate(memory, size * _BYTES)
            self._numbers = memoryview(mmap.mmap(memory, size * _BYTES)).cast("d")

    def counter(self, metric: Metric, *labels: str) -> Count:
        """Raises ``KeyError`` for labels that the settings do not know."""
        numbers, place = self._numbers, self._places[metric.name, labels]

        def count(by: int = 1) -> None:
            numbers[place] += by

        return count

    def counters(self, metric: Metric) -> Mapping[Labels, Count]:
        """`counter` of every series of the metric."""
        return {
            labels: self.counter(metric, *labels)
            for name, labels in self._places
            if name == metric.name
        }

    def gauge(self, metric: Metric, *labels: str) -> Callable[[float], None]:
        """Sets one gauge, which is 0 until then."""
        numbers, place = self._numbers, self._places[metric.name, labels]

        def put(value: float) -> None:
            numbers[place] = value

        return put

    def histogram(self, metric: Metric, *labels: str) -> Callable[[float], None]:
        """Takes one observation."""
        numbers, place = self._numbers, self._places[metric.name, labels]
        bounds, total = metric.buckets, place + len(metric.buckets) + 1

        def observe(value: float) -> None:
            numbers[place + bisect_left(bounds, value)] += 1
            numbers[total] += value

        return observe

    def sum_of(self, metric: Metric, chosen: Callable[[Labels], bool]) -> Callable[[], float]:
        """Says what the chosen counters of the metric have counted together, until it is asked."""
        numbers = self._numbers
        places = [
            place
            for (name, labels), place in self._places.items()
            if name == metric.name and chosen(labels)
        ]
        return lambda: sum(numbers[place] for place in places)

    def values(self) -> Iterable[tuple[Metric, Labels, Sequence[float]]]:
        """What was counted: one number, or those of a histogram."""
        for metric, labels, place in self._series:
            width = len(metric.buckets) + 2 if metric.buckets else 1
            yield metric, labels, self._numbers[place : place + width].tolist()


def unavailable_in(cells: Iterable[Cells]) -> Callable[[], float]:
    """Says how many logout tokens these processes have answered with 503, until it is asked."""
    counters = [one.sum_of(TOKENS, lambda labels: labels[2] == "unavailable") for one in cells]
    return lambda: sum(counter() for counter in counters)


def new_memory() -> int:
    """A file descriptor of memory that a worker is given and that its parent keeps; it has no
    name, so nothing of it is left when both have ended."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("backchannel-logout-metrics")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
