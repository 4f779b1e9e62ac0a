"""Turns the numbers into the text of ``/metrics``.

``text/plain``, or OpenMetrics where ``Accept`` asks for it, both by prometheus-client.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from app.telemetry.metrics.definitions import Labels, Metric
from app.telemetry.metrics.registry import Histogram, Registry, Series
from app.telemetry.metrics.series import Family

GaugeValue = tuple[Metric, Labels, float]
"""A gauge, the values of its labels, and its own."""


def exposed(registry: Registry, gauges: Iterable[GaugeValue], accept: str) -> tuple[bytes, str]:
    """The text and its media type; ``accept`` is the request's header.

    Reads numbers only, and takes milliseconds: run it in a thread.
    """
    collectors = CollectorRegistry(auto_describe=False)
    collectors.register(_Numbers(registry, gauges))
    encode, media_type = choose_encoder(accept)
    return encode(collectors), media_type


class _Numbers(Collector):
    """All numbers, for a registry of prometheus-client that lives for one answer."""

    def __init__(self, registry: Registry, gauges: Iterable[GaugeValue]) -> None:
        self._registry = registry
        self._gauges = gauges

    def collect(self) -> Iterator[Family]:
        families: dict[str, Family] = {}
        for metric, labels, series in self._registry.values():
            _add(_family(families, metric), labels, series)
        for metric, labels, value in self._gauges:
            _family(families, metric).add_metric(labels, value)  # type: ignore[arg-type,call-arg]
        yield from families.values()


def _family(families: dict[str, Family], metric: Metric) -> Family:
    if metric.name not in families:
        families[metric.name] = metric.family()
    return families[metric.name]


def _add(family: Family, labels: Labels, series: Series | Histogram) -> None:
    if isinstance(series, Histogram) and isinstance(family, HistogramMetricFamily):
        bounds = map(floatToGoString, (*series.bounds, math.inf))
        counts = accumulate(series.buckets)
        family.add_metric(labels, list(zip(bounds, counts, strict=True)), series.sum)
    elif isinstance(series, Series):
        family.add_metric(labels, series.value)  # type: ignore[arg-type,call-arg]
