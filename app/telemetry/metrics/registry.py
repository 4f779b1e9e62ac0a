"""The counters and histograms of the process, one for each series in `definitions`.

Cheaper than prometheus-client's own, which take a lock for each count: the counting code runs in
the event loop, and a scrape in a thread may read a histogram between two of its additions.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from operator import add
from typing import TypeVar

from prometheus_client.utils import floatToGoString

from app.config.model import Settings
from app.telemetry.metrics.definitions import ALL, TOKENS, Labels, Metric
from app.telemetry.metrics.selection import Selection
from app.telemetry.metrics.series import Family


class Series:
    """One counter or gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, by: int = 1) -> None:
        self.value += by

    def set(self, value: float) -> None:
        self.value = value

    def plus(self, other: "Series | Histogram | None") -> "Series":
        """A new one, with the sum of both."""
        total = Series()
        total.value = self.value + (other.value if isinstance(other, Series) else 0.0)
        return total

    def add_to(self, family: Family, labels: Labels) -> None:
        family.add_metric(labels, self.value)  # type: ignore[arg-type,call-arg]


class Histogram:
    """``buckets`` counts the observations up to and with each of ``bounds``, and beyond."""

    __slots__ = ("bounds", "buckets", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def plus(self, other: "Series | Histogram | None") -> "Histogram":
        """A new one, with the sum of both."""
        total = Histogram(self.bounds)
        total.buckets, total.sum = list(self.buckets), self.sum
        if isinstance(other, Histogram):
            total.buckets = list(map(add, total.buckets, other.buckets))
            total.sum += other.sum
        return total

    def add_to(self, family: Family, labels: Labels) -> None:
        bounds = map(floatToGoString, (*self.bounds, math.inf))
        counts = accumulate(self.buckets)
        family.add_metric(labels, list(zip(bounds, counts, strict=True)), self.sum)  # type: ignore[arg-type]


_Kind = TypeVar("_Kind", bound=Series | Histogram)


class _Made(dict[Labels, _Kind]):
    """The series of one metric; those that are not there from the start are made when they are
    looked up. ``KeyError``: the settings do not have these names."""

    def __init__(self, metric: Metric, make: Callable[[], _Kind], selection: Selection) -> None:
        self._metric = metric
        self._make = make
        self._selection = selection

    def __missing__(self, labels: Labels) -> _Kind:
        if not self._selection.knows(self._metric, labels):
            raise KeyError(labels)
        made = self[labels] = self._make()
        self._selection.count(self._metric, labels)
        return made


class Registry:
    """Every series that is counted. `selection` bounds how many are shown.

    Those of issuers, and in a small fleet all, start at 0: Prometheus cannot see the increase of a
    series that appears with its first event. Looking up labels that the settings do not know raises
    ``KeyError``.
    """

    def __init__(self, settings: Settings) -> None:
        self.selection = Selection(settings)
        self._series: dict[Metric, _Made[Series]] = {}
        self._histograms: dict[Metric, _Made[Histogram]] = {}
        for metric in ALL.values():
            if metric.kind == "histogram":
                histograms = _Made(metric, partial(Histogram, metric.buckets), self.selection)
                self._histograms[metric] = histograms
            else:
                self._series[metric] = _Made(metric, Series, self.selection)
        self._begin(settings)

    def serve(self, settings: Settings) -> None:
        """Count for these settings, too. What is there stays: a counter never goes back."""
        self.selection.serve(settings)
        self._begin(settings)

    def _begin(self, settings: Settings) -> None:
        """Make the series that begin at 0."""
        for metric, histograms in self._histograms.items():
            for each in metric.series(settings):
                histograms.setdefault(each, Histogram(metric.buckets))
        for metric, series in self._series.items():
            for each in metric.series(settings):
                series.setdefault(each, Series())

    def counter(self, metric: Metric, *labels: str) -> Series:
        return self._series[metric][labels]

    gauge = counter

    def counters(self, metric: Metric) -> Mapping[Labels, Series]:
        """`counter` for each series of the metric."""
        return self._series[metric]

    def histogram(self, metric: Metric, *labels: str) -> Histogram:
        return self._histograms[metric][labels]

    def histograms(self, metric: Metric) -> Mapping[Labels, Histogram]:
        """`histogram` for each series of the metric."""
        return self._histograms[metric]

    def families(self, apps: Collection[str] | None = None) -> Iterator[Family]:
        """All that are shown, for prometheus-client; or every series about ``apps``."""
        everything: dict[Metric, _Made[Series] | _Made[Histogram]] = {
            **self._series,
            **self._histograms,
        }
        for metric, all_series in everything.items():
            family = metric.family()
            shown: dict[Labels, Series | Histogram] = {}
            # Copied at once: this runs in a thread, while others are made.
            items: list[tuple[Labels, Series | Histogram]] = [*all_series.items()]
            for labels, series in items:
                if apps is not None:
                    if self.selection.is_of(metric, labels, apps):
                        shown[labels] = series
                elif (own := self.selection.shown(metric, labels)) == labels:
                    shown[labels] = series
                else:
                    shown[own] = series.plus(shown.get(own))
            for labels, series in shown.items():
                series.add_to(family, labels)
            if shown:
                yield family


def unavailable_in(registry: Registry) -> Callable[[], float]:
    """A function that returns how many logout tokens were answered with 503."""
    counters = registry.counters(TOKENS)
    return lambda: sum(
        series.value for labels, series in counters.items() if labels[2] == "unavailable"
    )
