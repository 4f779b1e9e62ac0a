"""Turns the numbers into the text of ``/metrics``.

``text/plain``, or OpenMetrics where ``Accept`` asks for it, both by prometheus-client.
"""

from collections.abc import Collection, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from app.telemetry.metrics.definitions import Labels, Metric
from app.telemetry.metrics.registry import Registry
from app.telemetry.metrics.series import Family

GaugeValue = tuple[Metric, Labels, float]
"""A gauge, the values of its labels, and its own."""


def exposed(
    registry: Registry,
    gauges: Iterable[GaugeValue],
    accept: str,
    apps: Collection[str] | None = None,
) -> tuple[bytes, str]:
    """The text and its media type; ``accept`` is the request's header. With ``apps``: only what is
    about these.

    Reads numbers only, and takes milliseconds: run it in a thread.
    """
    collectors = CollectorRegistry(auto_describe=False)
    collectors.register(_Numbers(registry, gauges, apps))
    encode, media_type = choose_encoder(accept)
    return encode(collectors), media_type


class _Numbers(Collector):
    """All numbers, for a registry of prometheus-client that lives for one answer."""

    def __init__(
        self,
        registry: Registry,
        gauges: Iterable[GaugeValue],
        apps: Collection[str] | None,
    ) -> None:
        self._apps = apps
        self._registry = registry
        self._gauges = gauges

    def collect(self) -> Iterator[Family]:
        yield from self._registry.families(self._apps)
        families: dict[Metric, Family] = {}
        for metric, labels, value in self._gauges:
            family = families.setdefault(metric, metric.family())
            family.add_metric(labels, value)  # type: ignore[arg-type,call-arg]
        yield from families.values()
