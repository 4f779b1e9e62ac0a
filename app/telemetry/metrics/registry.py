"""The counters and histograms of the process, one for each series in `definitions`.

Cheaper than prometheus-client's own, which take a lock for each count: the counting code runs in
the event loop, and a scrape in a thread may read a histogram between two of its additions.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.utils import floatToGoString

from app.config.model import Settings
from app.telemetry.metrics.definitions import ALL, TOKENS, Labels, Metric
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

    def add_to(self, family: Family, labels: Labels) -> None:
        bounds = map(floatToGoString, (*self.bounds, math.inf))
        counts = accumulate(self.buckets)
        family.add_metric(labels, list(zip(bounds, counts, strict=True)), self.sum)  # type: ignore[arg-type]


class Registry:
    """Every series that these settings can ever count.

    Each starts at 0: Prometheus cannot see the increase of a series that appears with its first
    event. Looking up labels that the settings do not know raises ``KeyError``.
    """

    def __init__(self, settings: Settings) -> None:
        self._series: dict[Metric, dict[Labels, Series]] = {}
        self._histograms: dict[Metric, dict[Labels, Histogram]] = {}
        for metric in ALL.values():
            labels = list(metric.series(settings))
            if metric.kind == "histogram":
                self._histograms[metric] = {each: Histogram(metric.buckets) for each in labels}
            else:
                self._series[metric] = {each: Series() for each in labels}

    def counter(self, metric: Metric, *labels: str) -> Series:
        return self._series[metric][labels]

    gauge = counter

    def counters(self, metric: Metric) -> Mapping[Labels, Series]:
        """`counter` for each series of the metric."""
        return self._series[metric]

    def histogram(self, metric: Metric, *labels: str) -> Histogram:
        return self._histograms[metric][labels]

    def families(self) -> Iterator[Family]:
        """All of them, for prometheus-client."""
        for metric, all_series in (self._series | self._histograms).items():
            family = metric.family()
            for labels, series in all_series.items():
                series.add_to(family, labels)
            if all_series:
                yield family


def unavailable_in(registry: Registry) -> Callable[[], float]:
    """A function that returns how many logout tokens were answered with 503."""
    counters = [
        series for labels, series in registry.counters(TOKENS).items() if labels[2] == "unavailable"
    ]
    return lambda: sum(counter.value for counter in counters)
