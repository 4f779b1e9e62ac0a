"""The composition root: builds the parts, opens the listeners, stops in order."""

import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from app.admin.hosts import KnownHosts
from app.background import background
from app.canary.issuer import Signer, with_canary
from app.config.model import Settings
from app.devtools.embedded_redis import EmbeddedServer
from app.log import new_log
from app.runtime.components import running_parts
from app.runtime.optional_listeners import running_apis
from app.server.listeners import admin_server, public_server, serve_all, stop_on_signal
from app.server.paths import LOGOUT_PATH
from app.server.sockets import bound, bound_for_users, reached_at, tell_addresses
from app.telemetry.registry import Registry

if TYPE_CHECKING:
    from app.canary.canary import Canary

log = new_log(__name__)


async def serve(settings: Settings, announce: Callable[[str], None] = print) -> None:
    """Serve until SIGTERM or SIGINT. Raises `StartFault` when it can not begin."""
    async with contextlib.AsyncExitStack() as stack:
        # What is entered later is left earlier: listeners first, then Redis, then its server.
        stop = stack.enter_context(stop_on_signal())
        public = stack.enter_context(bound(settings.listen, "listen"))
        admin = stack.enter_context(bound(settings.admin_listen, "admin_listen"))
        account = stack.enter_context(bound_for_users(settings))
        redis_url = await stack.enter_async_context(running_redis(settings, announce))
        own = settings
        settings, signer = with_canary(settings)
        registry = Registry(settings)
        parts = await stack.enter_async_context(running_parts(settings, redis_url, registry))
        for listener in (public, admin, *account):
            listener.listen()  # who comes from here on waits in line, and is not turned away
        parts.health.stopping = stop.is_set
        with_api, users = await stack.enter_async_context(
            running_apis(
                own,
                parts.publisher,
                account,
                registry=registry,
                health=parts.health.now,
                stopping=stop.is_set,
                announce=announce,
                unserved=lambda: parts.unserved.found,
            )
        )
        # Last of what is told, behind a token that was made: who waits for it has read everything.
        tell_addresses(public, admin, announce, account, console=own.has_console)
        operators = KnownHosts(parts.admin_app, settings.admin_hosts)
        servers = [
            public_server(settings, public, parts.public_app, parts.hot, parts.tally.made_room),
            admin_server(settings, admin, with_api(operators)),
            *users,
        ]
        parts.gauges.connections = servers[0].connections
        canary = new_canary(settings, signer, redis_url, public, registry)
        parts.health.canary = canary.state if canary else None
        async with background([canary.keep_trying] if canary else []):
            await serve_all(servers, stop, drain=settings.drain, watched=parts.health.watched)
    log.info("service", outcome="stopped")


@contextlib.asynccontextmanager
async def running_redis(settings: Settings, announce: Callable[[str], None]) -> AsyncIterator[str]:
    """The URL of Redis, with the embedded server running where the settings say so."""
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
    """The canary, for where there is to be one; its tries are counted in ``registry``."""
    if settings.canary is None or signer is None:
        return None
    from app.canary.canary import Canary  # noqa: PLC0415  only where it is on
    from app.canary.counting import counted_in  # noqa: PLC0415

    return Canary(
        settings.canary, signer, redis_url=redis_url, url=reached_at(public) + LOGOUT_PATH,
        on_try=counted_in(registry),
    )  # fmt: skip
