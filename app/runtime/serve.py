"""The service: opens the listeners, builds the components, serves, and stops in order."""

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING

from app.admin.health import Health
from app.admin.probes import Probes
from app.background import background
from app.canary.issuer import CanaryIssuer, Signer, with_canary
from app.config.load import Loaded, Tenant
from app.config.model import Settings
from app.config.reload import Reload
from app.devtools.embedded_redis import EmbeddedServer
from app.log import new_log
from app.runtime.components import running_components
from app.runtime.operations import operations_app
from app.runtime.optional_listeners import OptionalListeners
from app.server.listeners import admin_server, public_server, serve_all
from app.server.paths import LOGOUT_PATH
from app.server.shutdown import on_hangup, stop_on_signal
from app.server.sockets import bound, bound_for_users, print_addresses, reached_at
from app.telemetry.logs.output import LINES
from app.telemetry.metrics.counters import Counters
from app.telemetry.metrics.registry import Registry

if TYPE_CHECKING:
    from app.canary.canary import Canary

log = new_log(__name__)


async def serve(
    loaded: Loaded,
    load: Callable[[Mapping[str, Tenant]], Loaded],
    announce: Callable[[str], None] = print,
) -> None:
    """Serve until SIGTERM or SIGINT; ``load`` reads the settings again, see `Reload`. Raises
    `StartFault` when it cannot start."""
    own_settings = loaded.settings
    settings, signer = with_canary(own_settings)
    counters = Counters(settings)
    LINES.start(counters.log_unread)
    async with contextlib.AsyncExitStack() as stack:
        # Entered later means left earlier: the listeners, then Redis, then the embedded server.
        stop = stack.enter_context(stop_on_signal())
        public = stack.enter_context(bound(settings.listen, "listen"))
        admin = stack.enter_context(bound(settings.admin_listen, "admin_listen"))
        account = stack.enter_context(bound_for_users(settings))
        redis_url = await stack.enter_async_context(running_redis(settings, announce))
        components = await stack.enter_async_context(
            running_components(settings, redis_url, counters)
        )
        for listener in (public, admin, *account):
            listener.listen()  # from here on connections wait in the queue and are not refused
        server = public_server(
            settings, public, components.public_app, components.fast_route, counters.made_room
        )

        async def serve_changed(changed: Settings) -> None:
            """Put other issuers and account apps into service, with all other settings as now."""
            own = tuple(issuer for issuer in settings.issuers if isinstance(issuer, CanaryIssuer))
            tables = {"issuers": changed.issuers, "account_apps": changed.account_apps}
            await components.serve(
                settings.model_copy(update={"issuers": (*changed.issuers, *own)})
            )
            await optional.serve(own_settings.model_copy(update=tables))

        reload = Reload(loaded, load, serve_changed, counters.reloaded)
        canary = new_canary(settings, signer, redis_url, public, counters.registry)
        health = Health(
            components.keys, components.publisher, components.parking,
            stopping=stop.is_set, canary=canary.state if canary else None,
            refused_tenants=lambda: reload.refused,
        )  # fmt: skip
        probes = Probes(health.body)
        operations = operations_app(
            settings, components, counters, health, probes, server.connections
        )
        optional = OptionalListeners(
            operations, account, own_settings, components, health, counters.registry,
            reload=reload.reload, stopping=stop.is_set, announce=announce,
        )  # fmt: skip
        await stack.enter_async_context(optional.running(own_settings))

        stack.enter_context(on_hangup(reload.ask))
        # Printed last, after any generated token, so scripts can wait for these lines.
        print_addresses(public, admin, announce, account, console=settings.has_console)
        servers = [server, admin_server(settings, admin, optional.operations)]
        servers += optional.servers
        work = [reload.keep_reloading, *([canary.keep_trying] if canary else [])]
        async with background(work):
            await serve_all(servers, stop, drain=settings.drain, watched=probes.watched)
    log.info("service", outcome="stopped")


@contextlib.asynccontextmanager
async def running_redis(settings: Settings, announce: Callable[[str], None]) -> AsyncIterator[str]:
    """The URL of Redis; runs the embedded server where the settings name it."""
    if not settings.embedded:
        yield settings.redis_url.get_secret_value()
        return
    server = EmbeddedServer(settings.data_dir, settings.embedded_port)
    async with server.running() as redis_url:
        announce(f"embedded Redis for apps:  {redis_url}")
        yield redis_url


def new_canary(
    settings: Settings,
    signer: Signer | None,
    redis_url: str,
    public: socket.socket,
    registry: Registry,
) -> "Canary | None":
    """The canary, where the settings have one; ``registry`` counts its tries."""
    if settings.canary is None or signer is None:
        return None
    # It loads an HTTP client and a listener.
    from app.canary.canary import Canary  # noqa: PLC0415

    return Canary(
        settings.canary, signer, redis_url=redis_url, url=reached_at(public) + LOGOUT_PATH,
        registry=registry,
    )  # fmt: skip
