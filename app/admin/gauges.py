"""Reads every gauge of ``/metrics`` from memory; nothing here waits for Redis."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from itertools import islice

from app import __version__
from app.admin.health import MAX_APPS
from app.backchannel.admission import FairSemaphore
from app.backchannel.parking import Parking
from app.config.model import Settings
from app.publish.publisher import Publisher
from app.server.connection_limits import Connections
from app.store.server_info import facts_of
from app.store.unserved import UnservedWatch
from app.telemetry.metrics import definitions as metrics
from app.telemetry.metrics.counters import Counters
from app.telemetry.metrics.exposition import GaugeValue
from app.telemetry.metrics.readings import Readings
from app.telemetry.metrics.series import Labels, Metric
from app.telemetry.metrics.worst import worst_apps
from app.tokens.provider_keys import ProviderKeys

_Value = tuple[Metric, Labels, float | None]
"""A gauge as it is read; None is unknown."""

_ONLY = "primary"
"""The label of the one primary there is outside of a Cluster."""


@dataclass(frozen=True, slots=True)
class Gauges:
    """``connections`` are those of the public listener; ``ready`` is `Health.ready`."""

    settings: Settings
    _: KW_ONLY
    keys: Mapping[str, ProviderKeys]
    publisher: Publisher
    admission: FairSemaphore
    parking: Parking
    readings: Readings
    unserved: UnservedWatch
    counters: Counters
    connections: Connections
    ready: Callable[[], bool]
    refused_tenants: Callable[[], Mapping[str, list[str]]] = dict

    def choose(self) -> list[str]:
        """The apps that `read` reports: bounded. Run it in a thread."""
        return worst_apps(
            dict(self.readings.apps),  # it changes meanwhile when settings are read again
            self.publisher.monitor.app_errors,
            self.counters.registry.selection.requested,
            self.settings.metrics_max_apps,
            time.time(),
        )

    def read(self, apps: Iterable[str]) -> Iterator[GaugeValue]:
        """All known ones, now; of the apps only ``apps``."""
        return _known(self._values(apps))

    def read_apps(self, apps: Iterable[str]) -> Iterator[GaugeValue]:
        """Only those about ``apps``."""
        return _known(self._apps(apps))

    def _values(self, apps: Iterable[str]) -> Iterator[_Value]:
        yield metrics.READY, (), self.ready()
        yield from self._load()
        yield from self._parked()
        yield from self._providers()
        yield from self._apps(apps)
        yield from self._unserved_apps()
        yield from _journal(self.settings, self.publisher)
        yield from self._tenants()
        yield from _copy(self.publisher)
        yield from _redis(self.publisher)

    def _tenants(self) -> Iterator[_Value]:
        for name in islice(self.refused_tenants(), MAX_APPS):
            yield metrics.TENANT_REFUSED, (name,), 1

    def _load(self) -> Iterator[_Value]:
        yield metrics.BUILD, (__version__,), 1
        yield metrics.IN_FLIGHT, (), self.admission.in_use
        yield metrics.IN_FLIGHT_MOST, (), self.admission.max_places
        yield metrics.CONNECTIONS, (), len(self.connections)
        yield metrics.CONNECTIONS_MOST, (), self.connections.limits.connections

    def _parked(self) -> Iterator[_Value]:
        for issuer, tokens, size, seconds in self.parking.depths():
            yield metrics.PARKED, (issuer,), tokens
            yield metrics.PARKED_BYTES, (issuer,), size
            yield metrics.PARKED_OLDEST, (issuer,), seconds

    def _providers(self) -> Iterator[_Value]:
        now = time.time()
        for issuer, keys in self.keys.items():
            state = keys.state()
            yield metrics.JWKS_KEYS, (issuer,), state.keys
            yield metrics.JWKS_STALE, (issuer,), keys.issuer.jwks_max_stale
            yield metrics.JWKS_AGE, (issuer,), state.age
            yield metrics.CLOCK, (issuer,), self.counters.clocks[issuer].median(now)
        for issuer, periods in self.readings.quiet_periods.items():
            yield metrics.LAST_LOGOUT, (issuer,), periods.last
            yield metrics.LONGEST_GAP, (issuer,), periods.longest_gap(now)

    def _unserved_apps(self) -> Iterator[_Value]:
        for unserved in self.unserved.found.apps:
            if not unserved.elsewhere:
                yield metrics.APP_UNSERVED, (unserved.app,), 1

    def _apps(self, apps: Iterable[str]) -> Iterator[_Value]:
        now = time.time()
        for app in apps:
            read = self.readings.apps.get(app)
            if read is None or read.at is None:
                continue
            yield metrics.APP_READ, (app,), max(0.0, now - read.at)
            if now - read.at > self.readings.old_seconds:
                continue
            yield metrics.APP_UNREAD, (app,), read.beyond is not None
            yield metrics.APP_BYTES, (app, "events"), read.events_bytes
            yield metrics.APP_BYTES, (app, "written"), read.written_bytes
            yield metrics.APP_BYTES, (app, "other"), self.unserved.other_bytes.get(app)
            for kind, count in read.readers.items():
                yield metrics.APP_READERS, (app, kind), count
            yield metrics.APP_EVENTS, (app,), read.events
            yield metrics.APP_REPORT, (app,), read.last_report
            yield metrics.APP_LAG, (app,), read.lag
            yield metrics.APP_PENDING, (app,), read.pending
            yield metrics.APP_DEAD, (app,), read.dead_letters


def _known(values: Iterator[_Value]) -> Iterator[GaugeValue]:
    for metric, labels, value in values:
        if value is not None:
            yield metric, labels, value


def _journal(settings: Settings, publisher: Publisher) -> Iterator[_Value]:
    journal = publisher.journal
    if journal is None:
        return
    depth = journal.depth
    yield metrics.JOURNAL, ("waiting",), depth.waiting
    yield metrics.JOURNAL, ("set_aside",), depth.set_aside
    age = time.time() - depth.oldest_at if depth.waiting and depth.oldest_at is not None else 0
    yield metrics.JOURNAL_OLDEST, (), max(0.0, age)
    yield metrics.JOURNAL_BYTES, (), depth.bytes
    yield metrics.JOURNAL_MOST, (), settings.journal_max_bytes
    yield metrics.JOURNAL_DAMAGED, (), journal.damaged_files
    yield metrics.JOURNAL_WRITABLE, (), journal.fault is None


def _copy(publisher: Publisher) -> Iterator[_Value]:
    yield metrics.COPY_REACH, (), publisher.ack_log.reach
    yield metrics.COPY_WRITABLE, (), publisher.ack_log.writable


def _redis(publisher: Publisher) -> Iterator[_Value]:
    watch = publisher.monitor
    for place, fault in watch.faults.items():
        yield metrics.REDIS_WRITABLE, (place or _ONLY,), fault is None
    for app in islice(watch.app_errors, MAX_APPS):
        yield metrics.APP_WRITABLE, (app,), 0
    yield metrics.AGE_CONFLICT, (), len(publisher.store.metas.ages.conflicts)
    yield metrics.REDIS_DURABLE, (), watch.level_error is None
    for place, info in watch.infos.items():
        server = (place or _ONLY,)
        risks: dict[str, bool] = {"memory": False, "replication": False}
        risks |= {
            fact.what or "version": fact.fault for fact in facts_of(info) if fact.fault is not None
        }
        for risk, there in risks.items():
            yield metrics.REDIS_RISK, (*server, risk), there
        used, most = info.get("used_memory"), info.get("maxmemory")
        if isinstance(used, int) and isinstance(most, int):
            yield metrics.REDIS_USED, server, used
            yield metrics.REDIS_MOST, server, most
            if most:
                yield metrics.REDIS_RATIO, server, used / most
        if isinstance(evicted := info.get("evicted_keys"), int):
            yield metrics.REDIS_EVICTED, server, evicted
