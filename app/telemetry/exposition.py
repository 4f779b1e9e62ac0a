"""From numbers to the text of ``/metrics``.

``text/plain``, or OpenMetrics where ``Accept`` asks for it, both by prometheus-client.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from app.telemetry.metrics import ALL, Family, Metric
from app.telemetry.shared_counters import Cells, Labels

Gauge = tuple[str, list[str], float]
"""A gauge's name, the values of its labels, and its own; goes through JSON as it is."""


_MERGE: dict[str, Callable[[Iterable[float]], float]] = {"sum": sum, "max": max, "min": min}


def merged(gauges: Sequence[Iterable[Gauge]]) -> list[Gauge]:
    """Of several workers' gauges, what they are together (`Metric.merge`)."""
    found: dict[tuple[str, tuple[str, ...]], list[float]] = {}
    for of_one in gauges:
        for name, labels, value in of_one:
            found.setdefault((name, tuple(labels)), []).append(value)
    return [
        (name, list(labels), _MERGE[ALL[name].merge](values))
        for (name, labels), values in found.items()
    ]


def exposed(cells: Sequence[Cells], gauges: Iterable[Gauge], accept: str) -> tuple[bytes, str]:
    """The text and its media type. ``cells`` are of one process or several (`Metric.merge`).

    ``accept`` is the request's header. Reads numbers alone, and takes milliseconds: for a thread.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Numbers(cells, gauges))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _Numbers(Collector):
    """All of them, for a registry that lives for one answer."""

    def __init__(self, cells: Sequence[Cells], gauges: Iterable[Gauge]) -> None:
        self._cells = cells
        self._gauges = gauges

    def collect(self) -> Iterator[Family]:
        families: dict[str, Family] = {}
        for group in zip(*(one.values() for one in self._cells), strict=True):
            metric, labels, _ = group[0]
            columns = zip(*(one[2] for one in group), strict=True)
            numbers = [_MERGE[metric.merge](column) for column in columns]
            _add(_family(families, metric), metric, labels, numbers)
        for name, values, value in self._gauges:
            _family(families, ALL[name]).add_metric(values, value)  # type: ignore[arg-type,call-arg]
        yield from families.values()


def _family(families: dict[str, Family], metric: Metric) -> Family:
    if metric.name not in families:
        families[metric.name] = metric.family()
    return families[metric.name]


def _add(family: Family, metric: Metric, labels: Labels, numbers: Sequence[float]) -> None:
    if isinstance(family, HistogramMetricFamily):
        *counts, total = numbers
        bounds = map(floatToGoString, (*metric.buckets, math.inf))
        family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
    else:
        family.add_metric(labels, numbers[0])
