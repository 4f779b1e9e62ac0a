"""What a metric is, and the functions that list the values of its labels."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from app.config.model import Settings
from app.errors import Outage, Reason
from app.publish.writer import Written

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

_FAMILIES: dict[str, type[Family]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}

NOTHING = "-"
"""A label's value where there is none: an unknown issuer, no client yet, no reason."""

Labels = tuple[str, ...]
SeriesOf = Callable[[Settings], Iterable[Labels]]


def no_series(_: Settings) -> Iterable[Labels]:
    """For gauges that are read at each scrape."""
    return ()


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``buckets`` are upper bounds, in the unit that the name ends with; ``series``
    lists the values of ``labels`` that can occur."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    series: SeriesOf = no_series
    buckets: tuple[float, ...] = ()

    def family(self) -> Family:
        """An empty family of prometheus-client, which adds the ``_total`` of a counter itself."""
        return _FAMILIES[self.kind](self.name, self.help, labels=self.labels)


def fits(settings: Settings) -> bool:
    """Whether every app and every client has series of its own, all of them from the start."""
    clients = [client for issuer in settings.issuers for client in issuer.clients]
    return len(clients) <= settings.metrics_max_apps


def single(_: Settings) -> Iterable[Labels]:
    """The one series of a metric without labels."""
    return ((),)


def each(*values: str) -> SeriesOf:
    """A series for each value of the only label."""
    return lambda _: ((str(value),) for value in values)


def per_issuer(*values: str) -> SeriesOf:
    """A series for each issuer, and for each of ``values`` where there is a second label."""
    return lambda settings: _with(values, (one.issuer for one in settings.issuers))


def per_issuer_if_few() -> SeriesOf:
    """`per_issuer` in a fleet that `fits`; otherwise a series is made at the first count."""
    return lambda settings: per_issuer()(settings) if fits(settings) else ()


def per_app(*values: str) -> SeriesOf:
    """A series for each app, and for each of ``values`` where there is a second label; in a fleet
    that does not fit, each is made at the first count."""
    return lambda settings: (
        _with(
            values, sorted({client.app for issuer in settings.issuers for client in issuer.clients})
        )
        if fits(settings)
        else ()
    )


def with_canary(series: SeriesOf) -> SeriesOf:
    """The same series, only where the settings have a canary."""
    return lambda settings: series(settings) if settings.canary is not None else ()


def answered_tokens(settings: Settings) -> Iterator[Labels]:
    """Issuer, client, outcome and reason of each answer to a logout token.

    The client is known from ``aud`` on, so a refusal has none; without an issuer only the outcomes
    that occur before the issuer is known. In a fleet that does not fit, those of clients, and of
    reasons that usually occur before the issuer is known, are made at the first count.
    """
    no_issuer = (Outage.OVERLOADED, Outage.DEADLINE, Outage.INTERNAL)
    yield from ((NOTHING, NOTHING, "refused", reason.value) for reason in Reason)
    yield from ((NOTHING, NOTHING, "unavailable", outage.value) for outage in no_issuer)
    yield NOTHING, NOTHING, "disconnected", NOTHING
    all_fit = fits(settings)
    reasons = list(Reason)
    if not all_fit:
        reasons = reasons[reasons.index(Reason.ENCRYPTION_REQUIRED) :]
    for issuer in settings.issuers:
        name = issuer.issuer
        yield from ((name, NOTHING, "refused", reason.value) for reason in reasons)
        own = [client.client_id for client in issuer.clients] if all_fit else []
        clients = [NOTHING, *own]
        for client, outage in product(clients, Outage):
            yield name, client, "unavailable", outage.value
        for client, written in product(clients[1:], Written):
            yield name, client, written.value, NOTHING


def _with(values: tuple[str, ...], names: Iterable[str]) -> Iterator[Labels]:
    for name in names:
        if values:
            yield from ((name, str(value)) for value in values)
        else:
            yield (name,)
