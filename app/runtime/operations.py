"""Builds the operators' application: `/livez`, `/readyz` and `/metrics`."""

from starlette.types import ASGIApp

from app.admin.gauges import Gauges
from app.admin.health import Health
from app.admin.hosts import KnownHosts
from app.admin.metrics import Metrics
from app.admin.probes import Probes
from app.config.model import Settings
from app.runtime.components import Components, new_app
from app.server.connection_limits import Connections
from app.telemetry.metrics.counters import Counters


def operations_app(
    settings: Settings,
    components: Components,
    counters: Counters,
    health: Health,
    probes: Probes,
    connections: Connections,
) -> ASGIApp:
    """``connections`` are those of the public listener."""
    gauges = Gauges(
        settings, keys=components.keys, publisher=components.publisher,
        admission=components.admission, parking=components.parking, readings=components.readings,
        unserved=components.unserved, counters=counters, connections=connections,
        ready=health.ready, refused_tenants=health.refused_tenants,
    )  # fmt: skip
    metrics = Metrics(counters.registry, gauges)
    return KnownHosts(new_app([*probes.routes, metrics.route]), settings.admin_hosts)
